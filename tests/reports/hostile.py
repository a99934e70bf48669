"""Three hundred texts that somebody might give a model to see what a page makes of them."""

from __future__ import annotations

from itertools import chain, product

from reports.tables.cells import one_line

SCRIPTS = ("alert(1)", "document.title='x'", "fetch('//x.example')", "import('//x.example/m.js')")
WRAPPERS = (
    "<script>{}</script>",
    "<SCRIPT SRC=//x.example/>{}",
    "</script><script>{}//",
    "<img src=x onerror={}>",
    '"><svg onload={}>',
    "'><svg/onload={}>",
    "<body onload={}>",
    "<iframe srcdoc='<script>{}</script>'>",
    "<a href='javascript:{}'>a</a>",
    "javascript:{}",
    "JaVaScRiPt:{}//",
    "data:text/html,<script>{}</script>",
    "<details open ontoggle={}>",
    "<input autofocus onfocus={}>",
    "<math><mtext></mtext><script>{}</script></math>",
    "<noscript><p title='</noscript><img src=x onerror={}>'>",
)
CLOSERS = ("script", "style", "template", "title", "textarea", "table", "td", "main", "dialog")
ENDINGS = ("</{}>", "</{} >", "</{}/>", "</{}><b>", "<{}>", "<{} x=y>", "<!--</{}>", "]]></{}>")
ATTRIBUTES = ("onclick=x", "style=color:red", "href=//x.example", "id=t1", "class=short", "hidden")
QUOTES = ('"', "'", "`", '">', "'>", '" ')
TEMPLATES = (
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{# x #}",
    "${7*7}",
    "<%= 7*7 %>",
    "{{ self.__init__.__globals__ }}",
    "{% import 'os' as os %}",
    "#{7*7}",
    "[[7*7]]",
    "{{'a'|safe}}",
)
COMMENTS = (
    "<!--",
    "-->",
    "--!>",
    "<!-- -- -->",
    "<![CDATA[",
    "]]>",
    "<?php",
    "?>",
    "<!DOCTYPE html>",
)
ENTITIES = ("&lt;b&gt;", "&#60;b&#62;", "&#x3c;b>", "&amp;lt;", "&quot;", "&notin;", "&", "&#0;")
STYLES = (
    "}</style><b>",
    "*{background:url(//x.example)}",
    "@import '//x.example';",
    "expression(alert(1))",
    "color:red;x:y",
    "url(javascript:alert(1))",
)
MARKUP = (
    "[a](javascript:alert(1))",
    "![a](//x.example/x.png)",
    "a|b|c",
    "`code`",
    "# heading",
    "=1+1",
    "@SUM(1)",
    "+1",
    "\\input{/etc/passwd}",
    "$x^2$",
    "%n%s",
    "../../../etc/passwd",
    "C:\\con",
    "a;b; c",
    "a\\",
    "$(reboot)",
    "`reboot`",
    "'; drop table stages; --",
    "-rf",
    "file:///etc/passwd",
    "//x.example",
    "#t1",
)
SPACES = tuple(f"a{space}b" for space in "\t\n\r\v\f\x1c\x85\xa0\u2028\u2029\u3000\u200b\ufeff")
CONTROLS = tuple(
    f"{code}{chr(code)}<b>" for code in (0, 1, 7, 8, 11, 12, 14, 26, 27, 127, 128, 159)
)
UNICODE = (
    "\u202e<b>evil",
    "\u2066a\u2069",
    "\u200f\u05e9\u05dc\u05d5\u05dd",
    "模型 🙂",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "e\u0301" * 30,
    "\uff1cscript\uff1e",
    "\u02bcx\u02bc",
    "\ufffd\ufffe\uffff",
    "\U000e0041\U000e0042",
    "\\ud800",
    "\\u003cb\\u003e",
    "%3Cscript%3E",
    "+ADw-script+AD4-",
    "\ufb01\u0131\u0130",
)
LENGTHS = ("<b>" * 500, "a" * 5000, "a b " * 1000, "<" * 300, '"' * 300, "&" * 300, "-" * 241)
SURROGATES = ("\ud800", "a\udfff<b>", "\udc3c\udc3e")
"""Halves of a letter. No file of UTF-8 can hold them, but the JSON of a record can."""


def hostile_texts() -> list[str]:
    """The texts, no two of which look alike when they are printed on one line."""
    found = chain(
        (wrapper.format(script) for wrapper, script in product(WRAPPERS, SCRIPTS)),
        (ending.format(closer) for ending, closer in product(ENDINGS, CLOSERS)),
        (f"{quote}{attribute}" for quote, attribute in product(QUOTES, ATTRIBUTES)),
        *(TEMPLATES, COMMENTS, ENTITIES, STYLES, MARKUP, SPACES, CONTROLS, UNICODE, LENGTHS),
        (f"{quote}<b>{number}" for quote, number in product(QUOTES, range(8))),
    )
    return list({one_line(text): text for text in found}.values())
