"""Nobody is passed over, nobody is forgotten, and no slot gets lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import NoneType

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from residency.serve.admission import Admission, FairQueue, Overloaded
from residency.serve.errors import fault_of

CALLERS = st.sampled_from(["ada", "bob", "cyd"])
LONG = 30.0
SHORT = settings(max_examples=40, stateful_step_count=40)


class Waiting(RuleBasedStateMachine):
    """`FairQueue` against a deque a caller, and the order in which the callers had turns."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(limit=6, share=0.5)
        self.model: dict[str, deque[int]] = {"ada": deque(), "bob": deque(), "cyd": deque()}
        self.passed_over = dict.fromkeys(self.model, 0)
        self.tickets = 0

    @rule(caller=CALLERS)
    def join(self, caller: str) -> None:
        count = sum(map(len, self.model.values()))
        assert self.queue.has_room(caller) == (count < 6 and len(self.model[caller]) < 3)
        if self.queue.has_room(caller):
            self.tickets += 1
            self.queue = self.queue.join(caller, self.tickets)
            self.model[caller].append(self.tickets)

    @rule(caller=CALLERS, data=st.data())
    def leave(self, caller: str, data: st.DataObject) -> None:
        line = self.model[caller]
        ticket = data.draw(st.sampled_from(list(line))) if line else 0
        self.queue = self.queue.leave(caller, ticket)
        if line:
            line.remove(ticket)
        if not line:  # who comes again waits anew
            self.passed_over[caller] = 0

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def serve(self) -> None:
        ticket, self.queue = self.queue.next()
        served = next(caller for caller, line in self.model.items() if ticket in line)
        assert self.model[served].popleft() == ticket
        for caller, line in self.model.items():
            waits = caller != served and line
            self.passed_over[caller] = self.passed_over[caller] + 1 if waits else 0

    @invariant()
    def nobody_waits_for_more_than_one_turn_of_each_other(self) -> None:
        assert max(self.passed_over.values()) <= len(self.model) - 1

    @invariant()
    def the_same_tickets_wait(self) -> None:
        waiting = {caller: tuple(line) for caller, line in self.model.items() if line}
        assert dict(self.queue.lines) == waiting


TestWaiting = Waiting.TestCase
TestWaiting.settings = SHORT


class Desk:
    """Callers at an `Admission`: who came to work, in order; each works until let go."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.at_work: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def visit(self, name: str) -> float:
        """`name` is the caller's, a slash, and anything."""
        gate = self.gates[name] = asyncio.Event()
        async with self.admission.turn(name.partition("/")[0]) as queued:
            self.at_work.append(name)
            await gate.wait()
            return queued

    async def come(self, *names: str) -> list[asyncio.Task[float]]:
        tasks = [asyncio.create_task(self.visit(name)) for name in names]
        await settle()
        return tasks

    async def let_go(self, name: str) -> None:
        self.gates[name].set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def at_desk(
    scene: Callable[[Desk], Awaitable[None]], slots: int = 1, queue: int = 8, wait: float = LONG
) -> None:
    async def play() -> None:
        desk = Desk(Admission(slots, queue, wait))
        await scene(desk)
        for gate in desk.gates.values():
            gate.set()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        assert (desk.admission.busy, desk.admission.waiting) == (0, 0)
        async with asyncio.timeout(LONG), desk.admission.turn("last"):
            pass

    asyncio.run(play())


def test_turns_go_round_among_callers() -> None:
    async def scene(desk: Desk) -> None:
        await desk.come("ada/1", "ada/2", "ada/3", "ada/4", "bob/1", "bob/2")
        for name in ["ada/1", "ada/2", "bob/1", "ada/3", "bob/2"]:
            assert desk.at_work[-1] == name
            await desk.let_go(name)
        assert desk.at_work[-1] == "ada/4"

    at_desk(scene)


def test_who_waited_is_told_how_long_and_who_did_not_waited_nothing() -> None:
    async def scene(desk: Desk) -> None:
        first, second = await desk.come("ada", "bob")
        await desk.let_go("ada")
        await desk.let_go("bob")
        assert first.result() == 0.0 or first.result() < second.result()
        assert second.result() > 0

    at_desk(scene)


def test_past_the_bound_it_is_429_with_the_time_to_come_back() -> None:
    async def scene(desk: Desk) -> None:
        await desk.come("ada/1", "ada/2", "bob/1")
        for late in ("cyd", "ada/3"):
            (refused,) = await desk.come(late)
            error = refused.exception()
            assert isinstance(error, Overloaded)
            fault = fault_of(error)
            assert (fault.status, fault.code) == (429, "queue_full")
            assert int(fault.headers()["retry-after"]) >= 1

    at_desk(scene, queue=2)


def test_one_caller_cannot_fill_the_queue() -> None:
    async def scene(desk: Desk) -> None:
        await desk.come("ada/1", "ada/2", "ada/3")
        (refused,) = await desk.come("ada/4")
        assert isinstance(refused.exception(), Overloaded)
        (waits,) = await desk.come("bob")
        assert not waits.done()

    at_desk(scene, queue=4)


def test_retry_after_grows_with_the_work_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(desk: Desk) -> None:
        loop, now = asyncio.get_running_loop(), 0.0
        monkeypatch.setattr(loop, "time", lambda: now)
        await desk.come("ada/1")
        now = 10.0
        await desk.let_go("ada/1")
        await desk.come("ada/2", "ada/3", "bob/1")
        (refused,) = await desk.come("cyd")
        error = refused.exception()
        assert isinstance(error, Overloaded)
        assert error.headers == {"retry-after": "30"}

    at_desk(scene, queue=2)


def test_too_long_a_wait_is_503_and_the_gateways_fault() -> None:
    async def scene(desk: Desk) -> None:
        _, waits = await desk.come("ada", "bob")
        with pytest.raises(Overloaded, match=r"0\.01 s") as caught:
            await waits
        fault = fault_of(caught.value)
        assert (fault.status, fault.code, fault.party) == (503, "queue_timeout", "gateway")
        assert desk.admission.waiting == 0

    at_desk(scene, wait=0.01)


def test_who_leaves_while_waiting_gives_the_place_up() -> None:
    async def scene(desk: Desk) -> None:
        _, bob, _ = await desk.come("ada", "bob", "cyd")
        bob.cancel()
        await settle()
        assert desk.admission.waiting == 1
        await desk.let_go("ada")
        assert desk.at_work == ["ada", "cyd"]

    at_desk(scene)


def test_who_leaves_at_the_moment_of_the_turn_passes_it_on() -> None:
    async def scene(desk: Desk) -> None:
        ada, bob, _ = await desk.come("ada", "bob", "cyd")
        desk.gates["ada"].set()
        while not ada.done():
            await asyncio.sleep(0)
        assert desk.at_work == ["ada"]
        bob.cancel()  # its turn has been given, and it has not yet run
        await settle()
        assert desk.at_work == ["ada", "cyd"]
        assert desk.admission.busy == 1

    at_desk(scene)


def test_who_left_just_before_the_turn_is_not_called() -> None:
    async def scene(desk: Desk) -> None:
        ada, bob, _ = await desk.come("ada", "bob", "cyd")
        bob.cancel()
        ada.cancel()
        await settle()
        assert desk.at_work == ["ada", "cyd"]

    at_desk(scene)


def test_work_that_fails_gives_its_slot_back() -> None:
    async def scene(desk: Desk) -> None:
        with pytest.raises(RuntimeError):
            async with desk.admission.turn("ada"):
                raise RuntimeError
        await desk.come("bob")
        assert desk.at_work == ["bob"]

    at_desk(scene)


def test_slots_change_while_requests_run() -> None:
    async def scene(desk: Desk) -> None:
        await desk.come("ada/1", "ada/2", "ada/3", "bob/1")
        desk.admission.slots = 3
        await settle()
        assert desk.at_work == ["ada/1", "ada/2", "bob/1"]
        desk.admission.slots = 1
        await desk.let_go("ada/1")
        await desk.let_go("ada/2")
        assert desk.admission.waiting == 1
        await desk.let_go("bob/1")
        assert desk.at_work[-1] == "ada/3"

    at_desk(scene)


class Storm(RuleBasedStateMachine):
    """Callers come, finish, leave and see the slots change in any order, with loops in between of
    any length: no slot is lost, none is used twice, nobody waits beside a free one."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.desk = Desk(Admission(2, 6, LONG))
        self.tasks: dict[str, asyncio.Task[float]] = {}

    def turns(self, count: int) -> None:
        async def pass_by() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self.loop.run_until_complete(pass_by())

    @rule(caller=CALLERS, loops=st.integers(0, 3))
    def come(self, caller: str, loops: int) -> None:
        name = f"{caller}/{len(self.tasks)}"
        self.tasks[name] = self.loop.create_task(self.desk.visit(name))
        self.turns(loops)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), loops=st.integers(0, 3), gate=st.booleans(), cancel=st.booleans())
    def end(self, data: st.DataObject, loops: int, gate: bool, cancel: bool) -> None:
        name = data.draw(st.sampled_from(list(self.tasks)))
        if gate and name in self.desk.gates:
            self.desk.gates[name].set()
        if cancel:
            self.tasks[name].cancel()
        self.turns(loops)

    @rule(slots=st.integers(0, 3), loops=st.integers(0, 3))
    def swap(self, slots: int, loops: int) -> None:
        self.desk.admission.slots = slots
        self.turns(loops)

    @rule()
    def rest(self) -> None:
        self.turns(12)
        working = {n for n in self.desk.at_work if not self.tasks[n].done()}
        admission = self.desk.admission
        assert admission.busy == len(working)
        assert admission.waiting == sum(not task.done() for task in self.tasks.values()) - len(
            working
        )
        assert not admission.waiting or admission.busy >= admission.slots

    def teardown(self) -> None:
        self.rest()
        for task in self.tasks.values():
            task.cancel()
        self.turns(12)
        for task in self.tasks.values():
            assert task.cancelled() or isinstance(task.exception(), Overloaded | NoneType)
        assert self.desk.admission.busy == 0
        self.loop.close()


TestStorm = Storm.TestCase
TestStorm.settings = SHORT
