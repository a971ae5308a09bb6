"""What a recorded run costs in PostgreSQL, beside LangGraph's checkpointer and DBOS workflows of the same steps."""
