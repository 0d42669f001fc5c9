"""Mathematics as MathML, made when the site is built, so that pages need no script, no network.

A Markdown extension: `pymdownx.arithmatex` finds the formulas, this turns each into MathML, which
browsers draw by themselves.
"""

from xml.etree.ElementTree import Element

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor


class Formulas(Treeprocessor):
    """Replace the TeX source in every element that arithmatex marked."""

    def run(self, root: Element) -> None:
        """Go through a page."""
        for element in root.iter():
            if element.get("class") == "arithmatex" and element.text:
                display = "block" if element.text.startswith("\\[") else "inline"
                mathml = convert(element.text[2:-2].strip(), display=display)
                element.text = self.md.htmlStash.store(mathml)


class MathML(Extension):
    """Registers `Formulas` after arithmatex and the inline patterns."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Add it to a Markdown converter."""
        md.treeprocessors.register(Formulas(md), "mathml", 1)


def makeExtension(**options: object) -> MathML:
    """What Markdown calls to load the extension."""
    return MathML(**options)
