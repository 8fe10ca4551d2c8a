"""What the related work does at inference, on any trained model (the paper's section 2)."""
