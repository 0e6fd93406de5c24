"""What is trained: one task a family, from its configuration."""

from stemwright.training.tasks.choosing import task_of
from stemwright.training.tasks.task import Losses, Task

__all__ = ["Losses", "Task", "task_of"]
