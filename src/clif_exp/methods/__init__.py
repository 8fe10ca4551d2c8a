"""What other methods need beyond their config: how artifacts of one concept each become one."""
