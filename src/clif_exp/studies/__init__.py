"""What a study shows beside its tables: figures made from runs, and images labelled by people."""
