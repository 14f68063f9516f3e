"""Labels for documents: from files, or from a teacher model, joined, looked over and counted."""
