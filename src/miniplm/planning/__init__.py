"""What a run would do and cost, before anything starts.

Tokens are known once the corpus is tokenised and estimated from its bytes until then. FLOPs are
counted from the shapes. Hours come from doing each kind of work for a moment on this machine
(`calibration`), memory from what a batch keeps alive. Selecting, exporting and disks are small
beside that and taken from constants.
"""

from miniplm.planning.plan import Plan, StepPlan, make_plan

__all__ = ["Plan", "StepPlan", "make_plan"]
