"""What a recorded run costs in the journal, beside the bare floor and LangGraph's SQLite checkpointer."""
