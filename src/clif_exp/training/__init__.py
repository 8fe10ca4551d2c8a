"""What both training stages share: fitting, exact resume, schedules, callbacks."""
