"""Lambda: functions run in processes of their own, under their roles."""
