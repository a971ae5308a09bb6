"""What speaking to models costs in each wire format, beside the client of OpenAI, pydantic-ai and LiteLLM."""
