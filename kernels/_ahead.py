"""What threads that have nothing to do ask memory for: the matrix that will be read next.

A decoded token reads every weight once, in the order of the token before. Between two products one thread runs Python for 20 to
100 microseconds and the memory would rest. So each product of one row leaves a note, which matrix came after which, and a thread
that waits for work fetches its own share of what followed the last time into its second cache (a product of 768 x 768: 87 -> 68
microseconds after a pause of 60; a token of GPT-2 124M: 21.4 -> 20.7 ms, in int8 11.1 -> 10.6).

A wrong guess reads some memory in vain and does nothing else: a request for an address that is no more is no error.
"""
from ._jit import jit
from .matmul_plan import host_caches
from .simd import peek_i64, poke, prefetch_second

# bytes from the start of the memory that holds the notes; the record that is to be fetched stands on a line of its own
BEFORE, NEXT, NOTES = 0, 128, 256
MATRIX, FOLLOWER, PIECE, PIECES, NOTE = 0, 8, 16, 24, 32          # of a note: addresses of two matrices, how the second is cut
ROOM = 1021                                   # notes; a prime, since addresses of matrices share their last digits
SIZE = NOTES + ROOM * NOTE
FETCH = 4096                                  # bytes between two looks for work
MOST = host_caches()[1] * 3 // 4              # bytes in all: of the second cache


@jit
def note_of(notes, matrix):
    return notes + NOTES + (matrix >> 6) % ROOM * NOTE


@jit
def expect(notes, matrix, piece, pieces):
    """A matrix is about to be read in so many pieces of so many bytes, first and last ones first. Returns the note of what
    followed it the last time, 0 if that is not known."""
    before = peek_i64(notes + BEFORE)
    note = note_of(notes, before)
    poke(note + MATRIX, before)
    poke(note + FOLLOWER, matrix)
    poke(note + PIECE, piece)
    poke(note + PIECES, pieces)
    poke(notes + BEFORE, matrix)
    note = note_of(notes, matrix)
    return note if peek_i64(note + MATRIX) == matrix else 0


@jit
def share(note, thread, threads, done):
    """The next bytes, from where to where, of what this thread will take from either end; (0, 0) if there are no more."""
    piece, pieces = peek_i64(note + PIECE), peek_i64(note + PIECES)
    nth = thread // 2 + done // piece * ((threads + 1) // 2)
    if done >= MOST or 2 * nth >= pieces:
        return 0, 0
    start = peek_i64(note + FOLLOWER) + (nth if thread % 2 == 0 else pieces - 1 - nth) * piece
    return start + done % piece, start + min(done % piece + FETCH, piece)


@jit
def fetch(note, thread, threads, done):
    """Ask for some of a thread's share, of which it has asked for `done` bytes; how many now. As many as before: it has all."""
    start, stop = share(note, thread, threads, done)
    for line in range(start, stop, 64):
        prefetch_second(line)
    return done + stop - start
