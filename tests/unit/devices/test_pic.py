# SPDX-License-Identifier: GPL-2.0-or-later
"""Register sequences are those of arch/x86/kernel/i8259.c (v6.1)."""

import pickle

import pytest

from nanokernel_vm.devices.pic import COMMAND, DATA, PicPair

LINUX_INIT = [  # init_8259A(auto_eoi=0)
    *[("m", DATA, 0xFF)],
    *[("m", COMMAND, 0x11), ("m", DATA, 0x30), ("m", DATA, 0x04), ("m", DATA, 0x01)],
    *[("s", COMMAND, 0x11), ("s", DATA, 0x38), ("s", DATA, 0x02), ("s", DATA, 0x01)],
    *[("m", DATA, 0x00), ("s", DATA, 0x00)],
]


class Board:
    """The pair behind its ports."""

    def __init__(self) -> None:
        self.pics = PicPair()
        self.chips = {"m": self.pics.master, "s": self.pics.slave}
        self.run(LINUX_INIT)

    def run(self, sequence: list[tuple[str, int, int]]) -> None:
        for chip, offset, value in sequence:
            self.chips[chip].write(offset, 1, value)

    def read(self, chip: str, offset: int) -> int:
        return self.chips[chip].read(offset, 1)

    def raise_(self, *irqs: int) -> None:
        for irq in irqs:
            self.pics.set_line(irq, True)

    def take(self) -> list[int]:
        """Acknowledge whatever interrupts, as a CPU that never says EOI."""
        vectors = []
        while self.pics.output:
            vectors.append(self.pics.acknowledge())
        return vectors


@pytest.fixture
def board() -> Board:
    return Board()


def test_linux_finds_the_chip_by_its_mask(board: Board) -> None:
    # probe_8259A(): mask the slave, all but the cascade on the master, read it back
    board.run([("s", DATA, 0xFF), ("m", DATA, 0xFB)])
    assert board.read("m", DATA) == 0xFB
    assert board.read("s", DATA) == 0xFF


@pytest.mark.parametrize("irq", [i for i in range(16) if i != 2])
def test_every_line_has_its_vector(board: Board, irq: int) -> None:
    assert not board.pics.output
    board.raise_(irq)
    assert board.pics.output
    assert board.pics.acknowledge() == 0x30 + irq
    assert not board.pics.output


@pytest.mark.parametrize(
    ("irq", "sequence"),
    [  # mask_and_ack_8259A: mask, then a specific EOI; unmask
        (4, [("m", DATA, 0x10), ("m", COMMAND, 0x64), ("m", DATA, 0)]),
        (
            *(12,),
            [
                *[("s", DATA, 0x10), ("s", COMMAND, 0x64)],
                *[("m", COMMAND, 0x62), ("s", DATA, 0)],
            ],
        ),
    ],
)
def test_linux_acknowledges_and_gets_the_next_edge(
    board: Board, irq: int, sequence: list[tuple[str, int, int]]
) -> None:
    for _ in range(3):
        board.raise_(irq)
        assert board.take() == [0x30 + irq]
        board.run(sequence)
        assert not board.pics.output, "the line is still high, but it is no new edge"
        board.pics.set_line(irq, False)


def test_edges_while_masked_are_kept(board: Board) -> None:
    board.run([("m", DATA, 0xFF)])
    board.raise_(1)
    assert not board.pics.output
    board.run([("m", DATA, 0xFD)])
    assert board.take() == [0x31]


def test_lower_priorities_wait_for_the_end_of_higher_ones(board: Board) -> None:
    board.raise_(5, 3)
    assert board.take() == [0x33]
    board.raise_(1, 8)
    assert board.take() == [0x31], "8 is below 1, though above 3"
    board.run([("m", COMMAND, 0x20)])  # end of 1
    assert board.take() == [0x38]
    board.run([("s", COMMAND, 0x20), ("m", COMMAND, 0x20)])
    assert board.take() == [], "3 is still in service"
    board.run([("m", COMMAND, 0x20)])
    assert board.take() == [0x35]


def test_second_slave_request_is_an_edge_to_the_master(board: Board) -> None:
    board.raise_(9, 8)
    assert board.take() == [0x38]
    board.run([("s", COMMAND, 0x20), ("m", COMMAND, 0x20)])
    assert board.take() == [0x39]


def test_slave_with_automatic_eoi_keeps_interrupting(board: Board) -> None:
    board.run([("s", COMMAND, 0x11), ("s", DATA, 0x38), ("s", DATA, 2), ("s", DATA, 3)])
    board.raise_(9, 8)
    assert board.take() == [0x38]
    board.run([("m", COMMAND, 0x20)])
    assert board.take() == [0x39]


def test_irr_and_isr_are_told_apart(board: Board) -> None:
    # i8259A_irq_real(): OCW3 0x0b selects ISR, 0x0a IRR
    board.raise_(3)
    board.take()
    board.raise_(6)
    assert board.read("m", COMMAND) == 1 << 6
    board.run([("m", COMMAND, 0x0B)])
    assert board.read("m", COMMAND) == 1 << 3
    board.run([("m", COMMAND, 0x0A)])
    assert board.read("m", COMMAND) == 1 << 6


def test_acknowledging_nothing_gives_irq7_and_nothing_in_service(board: Board) -> None:
    assert board.pics.acknowledge() == 0x37
    board.run([("m", COMMAND, 0x0B)])
    assert board.read("m", COMMAND) == 0


def test_request_that_goes_away_is_forgotten(board: Board) -> None:
    board.raise_(4, 10)
    board.pics.set_line(4, False)
    board.pics.set_line(10, False)
    assert not board.pics.output


def test_slave_without_a_request_gives_irq15(board: Board) -> None:
    board.pics.master.set_line(2, True)
    assert board.pics.acknowledge() == 0x3F
    assert board.pics.slave.isr == 0
    assert board.pics.master.isr == 1 << 2


def test_level_triggered_lines_request_until_they_fall(board: Board) -> None:
    board.pics.elcr.write(0, 2, 0xFFFF)
    assert board.pics.elcr.read(0, 2) == 0xDEF8, "some lines are edge for good"
    for irq, eoi in ((5, [("m", COMMAND, 0x65)]), (11, [("s", COMMAND, 0x63)])):
        eoi = [*eoi, ("m", COMMAND, 0x62)]
        board.raise_(irq)
        assert board.take() == [0x30 + irq]
        board.run(eoi)
        assert board.take() == [0x30 + irq], "still high"
        board.pics.set_line(irq, False)
        board.run(eoi)
        assert board.take() == []


def test_initialisation_forgets_masks_service_and_edges(board: Board) -> None:
    board.raise_(3)
    board.take()
    board.raise_(1)
    board.run([("m", COMMAND, 0x11), ("m", DATA, 0x40), ("m", DATA, 4), ("m", DATA, 1)])
    assert board.take() == [], "line 1 is high, but its edge is gone"
    assert board.read("m", DATA) == 0
    board.pics.set_line(1, False)
    board.raise_(1)
    assert board.take() == [0x41]


def test_single_chip_without_icw4_expects_one_word(board: Board) -> None:
    board.run([("m", COMMAND, 0x12), ("m", DATA, 0x50), ("m", DATA, 0xEF)])
    assert board.read("m", DATA) == 0xEF


def test_automatic_eoi_leaves_nothing_in_service(board: Board) -> None:
    board.run([("m", COMMAND, 0x11), ("m", DATA, 0x30), ("m", DATA, 4), ("m", DATA, 3)])
    board.raise_(1, 6)
    assert board.take() == [0x31, 0x36]


def test_rotation_makes_the_served_line_the_last(board: Board) -> None:
    board.raise_(3)
    board.take()
    board.run([("m", COMMAND, 0xA0)])  # rotate on non-specific EOI
    for irq in (0, 3, 4):
        board.pics.set_line(irq, False)
    board.raise_(0, 3, 4)
    assert board.pics.acknowledge() == 0x34
    board.run([("m", COMMAND, 0x64), ("m", COMMAND, 0xC7)])  # EOI; 7 lowest again
    assert board.pics.acknowledge() == 0x30


def test_rotation_by_automatic_eoi(board: Board) -> None:
    board.run([("m", COMMAND, 0x11), ("m", DATA, 0x30), ("m", DATA, 4), ("m", DATA, 3)])
    board.run([("m", COMMAND, 0x80)])
    board.raise_(4)
    assert board.take() == [0x34]
    board.raise_(1, 5)
    assert board.take() == [0x35, 0x31]


def test_special_mask_mode_lets_lower_lines_through(board: Board) -> None:
    board.raise_(1)
    board.take()
    board.raise_(6)
    assert not board.pics.output
    board.run([("m", COMMAND, 0x68), ("m", DATA, 0x02)])
    assert board.take() == [0x36]
    board.run([("m", COMMAND, 0x20), ("m", COMMAND, 0x48), ("m", COMMAND, 0x0B)])
    assert board.read("m", COMMAND) == 1 << 1, "the EOI passed over the masked line"


def test_poll_acknowledges(board: Board) -> None:
    board.raise_(4)
    board.run([("m", COMMAND, 0x0B), ("m", COMMAND, 0x0C)])
    assert board.read("m", COMMAND) == 0x84
    assert not board.pics.output
    assert board.read("m", COMMAND) == 1 << 4, "one read is the poll's, as before after"
    board.run([("m", COMMAND, 0x0C)])
    assert board.read("m", DATA) == 0, "4 is in service"
    assert board.read("m", DATA) == 0


def test_a_poll_word_is_not_a_choice_of_register(board: Board) -> None:
    board.raise_(3)
    board.take()
    board.run([("m", COMMAND, 0x0B), ("m", COMMAND, 0x08), ("m", COMMAND, 0x09)])
    assert board.read("m", COMMAND) == 1 << 3


def test_register_words_leave_the_special_mask_alone(board: Board) -> None:
    board.raise_(1)
    board.take()
    board.raise_(6)
    board.run([("m", COMMAND, 0x28), ("m", DATA, 0x02)])
    assert not board.pics.output, "not set without its enable bit"
    board.run([("m", COMMAND, 0x68), ("m", COMMAND, 0x0B)])
    assert board.pics.output
    board.run([("m", COMMAND, 0x48)])
    assert not board.pics.output


def test_words_without_eoi_end_nothing(board: Board) -> None:
    board.raise_(3)
    board.take()
    board.run([("m", COMMAND, word) for word in (0x00, 0x40, 0x43, 0x80, 0xC2)])
    board.run([("m", COMMAND, 0x0B)])
    assert board.read("m", COMMAND) == 1 << 3
    board.raise_(2)
    assert not board.pics.output, "0xc2 made 2 the last, 3 the first"
    board.run([("m", COMMAND, 0x63)])
    assert board.pics.master.acknowledge() == 2


def test_rotation_by_automatic_eoi_can_be_cleared(board: Board) -> None:
    board.run([("m", COMMAND, 0x11), ("m", DATA, 0x30), ("m", DATA, 4), ("m", DATA, 3)])
    board.run([("m", COMMAND, 0x80), ("m", COMMAND, 0x00)])
    board.raise_(4)
    board.take()
    board.raise_(1, 5)
    assert board.take() == [0x31, 0x35]


def test_initialisation_ends_all_modes(board: Board) -> None:
    board.run([("m", COMMAND, 0x80), ("m", COMMAND, 0xC4), ("m", COMMAND, 0x6F)])
    board.run([("m", COMMAND, 0x11), ("m", DATA, 0x30), ("m", DATA, 4), ("m", DATA, 3)])
    board.raise_(5)
    assert board.read("m", COMMAND) == 1 << 5, "IRR, and no poll"
    assert board.take() == [0x35]
    board.raise_(0, 6)
    assert board.take() == [0x30, 0x36], "0 is first, and nothing rotates"
    board.run([("m", COMMAND, 0x11), ("m", DATA, 0x30), ("m", DATA, 4), ("m", DATA, 1)])
    board.raise_(1)
    board.take()
    board.raise_(7)
    board.run([("m", DATA, 0x02)])
    assert not board.pics.output, "no special mask"


def test_all_lines_level_triggered_by_icw1(board: Board) -> None:
    board.raise_(0, 7)
    board.run([("m", COMMAND, 0x19), ("m", DATA, 0x30), ("m", DATA, 4), ("m", DATA, 3)])
    assert [board.pics.acknowledge() for _ in range(2)] == [0x30, 0x30]
    board.pics.set_line(0, False)
    assert board.pics.acknowledge() == 0x37
    assert board.read("m", COMMAND) == 1 << 7


def test_a_level_said_twice_is_no_edge(board: Board) -> None:
    board.raise_(3)
    board.take()
    board.run([("m", COMMAND, 0x63)])
    board.raise_(3)
    assert not board.pics.output
    board.pics.set_line(5, False)
    assert not board.pics.output


def test_vectors_before_initialisation_and_their_low_bits() -> None:
    pics = PicPair()
    pics.set_line(4, True)
    assert pics.acknowledge() == 4
    for offset, value in ((COMMAND, 0x11), (DATA, 0x37), (DATA, 4), (DATA, 1)):
        pics.master.write(offset, 1, value)
    pics.set_line(1, True)
    assert pics.acknowledge() == 0x31, "the line is in the low bits"


def test_intr_is_told() -> None:
    levels: list[bool] = []
    pics = PicPair(levels.append)
    pics.set_line(3, True)
    pics.set_line(1, True)
    pics.acknowledge()
    assert levels == [True, False], "3 is below 1"
    pics.master.write(COMMAND, 1, 0x20)
    pics.acknowledge()
    assert levels == [True, False, True, False]


def test_state_round_trip(board: Board) -> None:
    board.raise_(3, 9)
    board.pics.acknowledge()
    saved = pickle.loads(pickle.dumps(board.pics.state()))
    other = PicPair()
    other.restore(saved)
    assert other.state() == board.pics.state()
    other.master.write(COMMAND, 1, 0x62)
    assert other.output
    assert other.acknowledge() == 0x33
    assert not board.pics.output, "a copy shares nothing"
