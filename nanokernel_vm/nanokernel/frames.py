# SPDX-License-Identifier: GPL-2.0-or-later
"""Extended interrupt frames: built on delivery, judged on return.

What a frame is, it says itself (``nanokernel_vm.abi.frame.classify``).  What is kept
here beside counters and a log is which frames are out, so that a second return of one
is seen, and what their targets were, so that the log can say what was rewritten.

The guest tells of each return by an OUT and returns by an IRET of its own: the CPU
changes privilege, faults where Linux expects it, and steps like any code.  So nothing
has to stop the processor, and a return costs a look at 88 bytes.

Frames live on stacks, which are aligned to their size and grow down.  A new frame, or
the return of one that Linux has put there, makes everything at or below it on that
stack dead: tasks that exited, faults that unwound.
"""

import struct
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple, Protocol

from nanokernel_vm.abi.frame import (
    FRAME_SIZE,
    WORDS_SIZE,
    Class,
    Hardware,
    Words,
    classify,
    defects,
    new_words,
)
from nanokernel_vm.clock import nanoseconds

LOG_LENGTH = 1024
REMEMBERED = 512  # returned frames whose target is kept for copies that come later
# A Linux of 1 GiB has room for 65,536 stacks of 16 KiB; more is known of no guest
OUT = 65_536
CAUSES = 1024
_IRETQ = b"\x48\xcf"
_FRAME = struct.Struct(f"<{FRAME_SIZE // 8}Q")
_HARDWARE = len(Hardware._fields)


class Owner(Protocol):
    """The partition whose frames they are."""

    def now(self) -> int:
        """Its clock, in ticks."""

    def read_virtual(self, va: int, length: int) -> bytes | None:
        """Its memory; None where unmapped."""


class Built(NamedTuple):
    """A frame as it was built: where ip lies (virtual), and its eleven words."""

    address: int
    frame: tuple[int, ...]

    @property
    def sequence(self) -> int:
        """Its number."""
        return Words(*self.frame[_HARDWARE:]).sequence


class Returned(NamedTuple):
    """A return that was not simply the end of what the frame was built for.

    Attributes:
        time: Virtual time in ticks.
        kind: What the frame was.
        address: Where it lay; virtual.
        hardware: The target that IRET takes.
        words: The nanokernel's words there.
        changed: Names of the target's words that are not as built, if that is known.
    """

    time: int
    kind: Class
    address: int
    hardware: Hardware
    words: Words
    changed: tuple[str, ...]


class Frames:
    """The frames of one guest.

    Args:
        owner: Its partition.
        stack_size: Of its stacks, in bytes, a power of two.

    Attributes:
        sequence: Number of the last frame built.
        counts: Returns by class.
        causes: Returns but ``SAME`` by class, vector and what was changed, as far as
            these were among the first to be seen.
        switched: Returns of another frame than the last one that was out: the guest
            had switched stacks.
        abandoned: Frames that a newer one overlaid: their tasks exited.
        unwound: Frames that were still out below one that returned.
        refused: Returns that the CPU's IRET took back by a fault.
        forgotten: Frames given up, the oldest first, because too many were out.
        log: The last returns but ``SAME``.
    """

    size = WORDS_SIZE

    def __init__(self, owner: Owner, stack_size: int) -> None:
        self._owner, self.stack_size = owner, stack_size
        self.sequence = 0
        self.counts = dict.fromkeys(Class, 0)
        self.causes: Counter[tuple[Class, int, tuple[str, ...]]] = Counter()
        self.switched = self.abandoned = self.unwound = self.refused = 0
        self.forgotten = 0
        self.log: deque[Returned] = deque(maxlen=LOG_LENGTH)
        self._out: OrderedDict[int, Built] = (
            OrderedDict()
        )  # by sequence, in order of building
        self._stacks: dict[int, deque[Built]] = {}  # of those out, from the top down
        self._back: dict[int, Built] = {}  # the last that returned, by sequence
        self._copied: OrderedDict[int, int] = (
            OrderedDict()
        )  # stack to the sequence last returned there
        self._returning: tuple[int, Class, int] | None = None
        self._next: Built | None = None

    @property
    def out(self) -> Mapping[int, Built]:
        """Those built and not known to be gone, by sequence, the oldest first."""
        return self._out

    def state(self) -> dict[str, object]:
        """A copy of everything that a snapshot must hold; the log is none of it."""
        kept = ("_owner", "log")
        return deepcopy({k: v for k, v in vars(self).items() if k not in kept})

    # -- building --------------------------------------------------------------

    def words(self, vector: int, at: int, hardware: Sequence[int]) -> Sequence[int]:
        """Return the words of the next frame, whose ip will be at ``at``."""
        time = nanoseconds(self._owner.now())
        words = new_words(vector, at, self.sequence + 1, time, hardware)
        self._next = Built(at, (*hardware, *words))
        return words

    def built(self) -> None:
        """The frame of the words last asked for has been written."""
        new = self._next
        if new is None:
            raise AssertionError("no frame was begun")
        self._next = None
        self.sequence += 1
        if self._returning is not None:
            self._take_back(new)
        self._put_out(self.sequence, new)
        if len(self._out) > OUT:
            self._forget()

    def _put_out(self, sequence: int, frame: Built) -> None:
        """Put a frame at the end of its stack."""
        self._lay(frame.address)
        base = frame.address & -self.stack_size
        self._stacks.setdefault(base, deque()).append(frame)
        self._out[sequence] = frame

    def _lay(self, address: int) -> None:
        """Give up what is at or below a frame."""
        base = address & -self.stack_size
        while (stack := self._stacks.get(base)) and stack[-1].address <= address:
            del self._out[self._pop(base).sequence]
            self.abandoned += 1

    def _pop(self, base: int) -> Built:
        """Take the lowest frame off a stack; one without any is not kept."""
        stack = self._stacks[base]
        frame = stack.pop()
        if not stack:
            del self._stacks[base]
        return frame

    def _forget(self) -> None:
        """Give up the oldest frame, so that no guest can make this grow for ever."""
        _, oldest = self._out.popitem(last=False)
        base = oldest.address & -self.stack_size
        stack = self._stacks[base]
        stack.remove(oldest)  # the first: what it was built before lies below
        if not stack:
            del self._stacks[base]
        self.forgotten += 1

    def _take_back(self, new: Built) -> None:
        """The last return has not happened if it is its IRET that faults now."""
        address, kind, sequence = self._returning or (0, Class.SAME, 0)
        self._returning = None
        target = Hardware(*new.frame[:_HARDWARE])
        if target.sp != address or target.cs & 3:
            return
        if self._owner.read_virtual(target.ip, len(_IRETQ)) != _IRETQ:
            return
        self.refused += 1
        if kind is Class.COPY:
            self._copied.pop(address & -self.stack_size, None)
        elif sequence in self._back:
            self._put_out(sequence, self._back.pop(sequence))

    # -- returning -------------------------------------------------------------

    def returns(self, address: int) -> str:
        """Judge the frame that IRET is about to take; why it must not, or nothing.

        Args:
            address: Virtual address of ip.
        """
        raw = self._owner.read_virtual(address, FRAME_SIZE)
        if raw is None:
            self.counts[Class.CORRUPT] += 1
            return f"return through an interrupt frame at {address:#x}: not mapped"
        frame = _FRAME.unpack(raw)
        stack = self._stacks.get(address & -self.stack_size)
        if stack and stack[-1].frame == frame and stack[-1].address == address:
            kind = Class.SAME
            sequence = self._leave(address & -self.stack_size)
        else:
            hardware, words = Hardware(*frame[:_HARDWARE]), Words(*frame[_HARDWARE:])
            sequence = words.sequence
            kind = self._judge(address, hardware, words)
        self.counts[kind] += 1
        self._returning = address, kind, sequence
        return _complaint(address, words) if kind is Class.CORRUPT else ""

    def _leave(self, base: int) -> int:
        """The lowest frame of a stack returns; its number."""
        frame = self._pop(base)
        sequence = frame.frame[_HARDWARE + 2]
        if next(reversed(self._out)) != sequence:
            self.switched += 1
        del self._out[sequence]
        self._back[sequence] = frame
        if len(self._back) > REMEMBERED:
            del self._back[next(iter(self._back))]
        return sequence

    def _judge(self, address: int, hardware: Hardware, words: Words) -> Class:
        kind = classify(address, hardware, words, self.stack_size)
        original = self._out.get(words.sequence) or self._back.get(words.sequence)
        if kind in (Class.COPY, Class.UNBORN):
            kind = self._leave_foreign(address, kind, words.sequence)
        elif kind is not Class.CORRUPT:
            kind = self._leave_own(kind, words.sequence)
        if kind is not Class.SAME:
            self._note(kind, address, hardware, words, original)
        return kind

    def _leave_foreign(self, address: int, kind: Class, sequence: int) -> Class:
        """A frame returns from where Linux has put it."""
        self._lay(address)
        if kind is Class.COPY:
            stack = address & -self.stack_size
            if self._copied.get(stack) == sequence:
                return Class.REPLAYED
            self._copied[stack] = sequence
            self._copied.move_to_end(stack)
            if len(self._copied) > OUT:
                self._copied.popitem(last=False)
            self.switched += 1
        return kind

    def _leave_own(self, kind: Class, sequence: int) -> Class:
        """A frame returns that was built on this stack."""
        frame = self._out.get(sequence)
        if frame is None:  # of what was forgotten, nobody knows
            known = not self.forgotten or sequence in self._back
            return Class.REPLAYED if known else kind
        base = frame.address & -self.stack_size
        while self._stacks[base][-1].address < frame.address:
            del self._out[self._pop(base).sequence]
            self.unwound += 1
        self._leave(base)
        return kind

    def _note(
        self,
        kind: Class,
        address: int,
        hardware: Hardware,
        words: Words,
        original: Built | None,
    ) -> None:
        before = original.frame if original is not None else hardware
        changed = tuple(
            name
            for name, was, now in zip(Hardware._fields, before, hardware, strict=False)
            if was != now
        )
        now = self._owner.now()
        self.log.append(Returned(now, kind, address, hardware, words, changed))
        cause = kind, words.vector, changed
        if cause in self.causes or len(self.causes) < CAUSES:
            self.causes[cause] += 1


def _complaint(address: int, words: Words) -> str:
    return (
        f"return through a corrupt interrupt frame at {address:#x}: "
        f"{'; '.join(defects(words))} (claims number {words.sequence}, built at "
        f"{words.built_at:#x} for vector {words.vector:#x}; see monitor frames)"
    )
