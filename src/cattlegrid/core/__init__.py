"""The words of Cattlegrid: frozen types, ids, money, deadlines, errors, and the ports that two rooms need. No I/O."""
