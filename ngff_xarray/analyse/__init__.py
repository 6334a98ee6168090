"""Images processed a block at a time: functions applied, objects measured, results compared."""
