"""Turns an action of the loop into a plan, by handing it to whoever makes plans of that kind."""

from cattlegrid.journal import events as ev
from cattlegrid.runtime import loop
from cattlegrid.runtime.end_plans import EndPlans
from cattlegrid.runtime.model_plans import ModelPlans
from cattlegrid.runtime.plan import Desk, Plan, plan_of
from cattlegrid.runtime.state import Run, Session
from cattlegrid.runtime.tool_plans import ToolPlans


class Planner:
    """Makes plans for the open run of one session."""

    def __init__(self, desk: Desk) -> None:
        self._models = ModelPlans(desk)
        self._tools = ToolPlans(desk)
        self._ends = EndPlans(desk)

    def plan(self, session: Session, action: loop.Action) -> Plan:
        """The plan for an action that records something. Raises ValueError for `Rest` and `Wait`."""
        run = session.run
        if run is None:
            raise ValueError("no run is open")
        if isinstance(action, loop.Park):
            return plan_of(run, [ev.RunParked(attempts=run.attempts)])
        made = self._of_model(session, run, action) or self._of_tool(session, run, action)
        made = made or self._of_end(session, run, action)
        if made is None:
            raise ValueError(f"there is nothing to plan for {type(action).__name__}")
        return made

    def _of_model(self, session: Session, run: Run, action: loop.Action) -> Plan | None:
        match action:
            case loop.Chat(tools_allowed=allowed):
                return self._models.chat(session, run, tools_allowed=allowed)
            case loop.Summarise(span=span):
                return self._models.summary(session, run, span)
            case loop.Repeat(step=step) if step.model is not None:
                return self._models.again(session, run, step)
            case _:
                return None

    def _of_tool(self, session: Session, run: Run, action: loop.Action) -> Plan | None:
        match action:
            case loop.StartCalls(places=places):
                return self._tools.start(session, run, places)
            case loop.RunApproved(step=step):
                return self._tools.approved(session, run, step)
            case loop.Repeat(step=step):
                return self._tools.again(session, run, step)
            case loop.Reconcile(step=step):
                return self._tools.about(session, run, step, ev.StepKind.RECONCILE)
            case loop.Undo(step=step):
                return self._tools.about(session, run, step, ev.StepKind.UNDO)
            case loop.HoldDoubt(step=step):
                return self._tools.hold_doubt(session, run, step)
            case _:
                return None

    def _of_end(self, session: Session, run: Run, action: loop.Action) -> Plan | None:
        match action:
            case loop.CheckInput():
                return self._ends.check_input(session, run)
            case loop.Compact(span=span, strategy=strategy):
                return self._ends.compact(run, span, strategy)
            case loop.DropUnsent():
                return self._ends.drop_unsent(session, run)
            case loop.RefuseHeld(step=step):
                return self._ends.refuse_held(run, step)
            case loop.RefuseRest(code=code):
                return self._ends.refuse_rest(run, code)
            case loop.Settle(step=step):
                return self._ends.settle(run, step)
            case loop.Finish(status=status, reason=reason):
                return self._ends.finish(session, run, status, reason)
            case _:
                return None
