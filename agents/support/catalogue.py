"""What the shop sells: 50 products for kitchen and table."""

from typing import NamedTuple


class Product(NamedTuple):
    """One product; the price is in cents."""

    sku: str
    name: str
    description: str
    price_cents: int
    stock: int
    returnable: bool = True


PRODUCTS: tuple[Product, ...] = (
    Product("KET-01", "Kettle Fjord, blue", "Electric kettle, 1.7 litres, enamelled steel", 4990, 12),
    Product("KET-02", "Kettle Fjord, white", "Electric kettle, 1.7 litres, enamelled steel", 4990, 31),
    Product("KET-03", "Kettle Alp", "Stove-top kettle with a whistle, stainless steel", 3450, 8),
    Product("KET-04", "Gooseneck kettle", "Electric kettle with a thin spout for hand-made coffee", 8900, 5),
    Product("COF-01", "French press, 1 litre", "Coffee press of glass and steel", 2990, 40),
    Product("COF-02", "Coffee grinder, hand", "Conical ceramic burrs, 30 grams", 3900, 22),
    Product("COF-03", "Coffee grinder, electric", "Conical steel burrs, 12 steps", 11900, 9),
    Product("COF-04", "Pour-over coffee set", "Dripper, glass jug and 100 paper filters", 7990, 17),
    Product("COF-05", "Espresso maker Duo", "Makes 2 cups of espresso, 15 bar", 12900, 6),
    Product("COF-06", "Moka pot, 6 cups", "Aluminium, for gas and electric stoves", 2790, 35),
    Product("COF-07", "Milk frother", "Warms and froths 250 millilitres of milk", 4450, 14),
    Product("COF-08", "Coffee beans, 1 kg", "Medium roast, Colombia and Ethiopia", 1990, 80, False),
    Product("TEA-01", "Teapot Linden, 1.2 litres", "Porcelain with a steel strainer", 3990, 11),
    Product("TEA-02", "Teapot, cast iron", "0.8 litres, enamelled inside", 5490, 7),
    Product("TEA-03", "Tea infuser", "Fine steel mesh with a lid", 890, 120),
    Product("TEA-04", "Green tea, 200 g", "Loose leaves from Japan", 1450, 60, False),
    Product("MUG-01", "Mug, stoneware", "350 millilitres, grey", 1290, 200),
    Product("MUG-02", "Mug set of 2", "Porcelain, 300 millilitres, hand-painted", 2450, 48),
    Product("MUG-03", "Thermo mug", "Keeps drinks hot for 5 hours, 400 millilitres", 2290, 73),
    Product("MUG-04", "Espresso cups, set of 4", "Porcelain, 80 millilitres", 1990, 39),
    Product("PAN-01", "Frying pan, 28 cm", "Cast iron, for all stoves and the oven", 5990, 16),
    Product("PAN-02", "Frying pan, 24 cm", "Coated aluminium", 3490, 27),
    Product("PAN-03", "Wok, 30 cm", "Carbon steel with a wooden handle", 4490, 13),
    Product("PAN-04", "Grill pan", "Cast iron, 26 by 26 centimetres", 5290, 10),
    Product("POT-01", "Saucepan, 2 litres", "Stainless steel with a lid", 3990, 25),
    Product("POT-02", "Stock pot, 8 litres", "Stainless steel with a lid", 6990, 9),
    Product("POT-03", "Casserole, 5 litres", "Enamelled cast iron, red", 14900, 4),
    Product("POT-04", "Steamer basket", "Fits pots of 18 to 24 centimetres", 1690, 44),
    Product("KNI-01", "Chef's knife, 20 cm", "Forged steel, 58 HRC", 8490, 15),
    Product("KNI-02", "Paring knife, 9 cm", "Forged steel", 3290, 33),
    Product("KNI-03", "Bread knife, 22 cm", "Serrated edge", 4590, 21),
    Product("KNI-04", "Knife block of beech", "Holds 6 knives; knives not included", 4990, 12),
    Product("KNI-05", "Sharpening stone", "Grit 1000 and 3000", 3590, 18),
    Product("BRD-01", "Cutting board, oak", "40 by 28 centimetres, oiled", 3990, 26),
    Product("BRD-02", "Cutting board, small", "Beech, 25 by 15 centimetres", 1490, 52),
    Product("BAK-01", "Loaf tin, 30 cm", "Coated steel", 1790, 41),
    Product("BAK-02", "Springform tin, 26 cm", "Coated steel with a flat bottom", 2190, 37),
    Product("BAK-03", "Mixing bowls, set of 3", "Stainless steel with lids", 3490, 19),
    Product("BAK-04", "Kitchen scale", "Up to 5 kilograms, steps of 1 gram", 2490, 29),
    Product("BAK-05", "Rolling pin", "Maple, 45 centimetres", 1890, 34),
    Product("TOA-01", "Toaster, 2 slices", "Stainless steel, 6 steps", 4990, 20),
    Product("TOA-02", "Toaster, 4 slices", "Stainless steel, defrosts", 7490, 8),
    Product("BLE-01", "Hand blender", "600 watts, with a whisk", 5490, 17),
    Product("BLE-02", "Blender, 1.5 litres", "Glass jug, 1,200 watts", 10900, 6),
    Product("GLA-01", "Water glasses, set of 6", "250 millilitres, dishwasher safe", 1990, 58),
    Product("GLA-02", "Carafe, 1 litre", "Glass with a cork", 2290, 24),
    Product("LMP-01", "Table lamp Dune", "Linen shade, 40 centimetres high", 6490, 11),
    Product("TWL-01", "Kitchen towels, set of 3", "Half linen, 50 by 70 centimetres", 1890, 65),
    Product("APR-01", "Apron, linen", "With pockets, one size", 3290, 23),
    Product("GFT-50", "Gift card, 50 euros", "Sent by e-mail, valid for 3 years", 5000, 999, False),
)
