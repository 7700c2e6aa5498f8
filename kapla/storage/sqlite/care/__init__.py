"""Looking after what is stored: is it sound, can it be saved, can it be copied."""
