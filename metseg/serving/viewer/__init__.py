"""The viewer: a Streamlit page to look at a study, at what models answer to it, and at where they differ."""
