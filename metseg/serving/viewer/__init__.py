"""The viewer: a Streamlit page with a study, the segmentations of models, and their differences."""
