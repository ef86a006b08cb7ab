"""How a tuned model is called: the address of its endpoint and the token, and otherwise the `openai` package."""
