"""Files that went wrong: some bytes of a good one exchanged, as hypothesis likes."""

from hypothesis import strategies as st


def mutated(data, content, *, times, cut, grown):
    """Replace up to `cut` bytes in a few places by up to `grown` others."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, times))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, cut))] = data.draw(st.binary(max_size=grown))
    return content
