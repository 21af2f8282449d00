"""What a reader sees of HTML."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.decode.html import visible_text

SEEN = [
    ("plain", "plain"),
    ("", ""),
    ("<p>one</p><p>two</p>", "one\ntwo"),
    ("<p>one<p>two", "one\ntwo"),
    ("<div>a<div>b</div>c</div>", "a\nb\nc"),
    ("un<b>be</b>liev<span>able</span>", "unbelievable"),
    ("one<br>two<br/>three</br>", "one\ntwo\nthree"),
    ("  a \n\t b  <i> c</i>", "a b c"),
    ("a &amp; b &lt;c&gt; &eacute;&#233;&#x1F600; d&nbsp;e", "a & b <c> éé\U0001f600 d\xa0e"),
    ("<html><head><title>T</title><style>p {}</style></head><body>x</body></html>", "x"),
    ("a<script>if (b < c) {'</p>'}</script>d", "ad"),
    ("a<!-- <p>no</p> -->b", "ab"),
    ("a<![CDATA[x]]>b<?php no ?>", "ab"),
    ("<!DOCTYPE html><p>x", "x"),
    ("a<template>no</template><noscript>no</noscript><object>no</object><iframe>no</iframe>b", "ab"),
    ("<pre>\n  a\n\n    b  c\n</pre>d", "  a\n\n    b  c\nd"),
    ("<pre>a <b>b</b>\n c</pre>", "a b\n c"),
    ("<textarea>a\n  <b></textarea>", "a\n  <b>"),
    ("<table><tr><td>a</td><td>b</td></tr><tr><th>c<td>d</table>", "a b\nc d"),
    ("<ul><li>a<li>b<ul><li>c</ul></ul>", "a\nb\nc"),
    ("<p hidden>no</p>yes", "yes"),
    ("<div style='color:red; DISPLAY : none'>no<div>no</div></div>yes", "yes"),
    ("<span style=display:none>no<span>no</span>no</span>yes", "yes"),
    ("<p class='hidden-sm' data-x=hidden>yes</p>", "yes"),
    ("<a href='x>y' title=\"<p>\">link</a>s", "links"),
    ("1 < 2 <<b>p>", "1 < 2 <p>"),
    ("a<b", "a"),
    ("<P>A</P><P>B</P>", "A\nB"),
    ("<img alt=x src=data:image/png;base64,AAAA///>caption", "caption"),
    ("<select><option>a<option>b</select>", "a\nb"),
    ("<title>", ""),
    ("a\0b", "a\ud800b"),
    ("a\udfffb", "a\ud800b"),
    ("a\0\ue000&#xe001;&amp;#xe002;\udfffb", "a\ud800\ue000\ue001&#xe002;\ud800b"),
    ("<p title='\0'>a<p hidden>\0</p>", "a"),
    ("a\ufffdb&#0;", "a\ufffdb\ufffd"),
    ("a<\0b>c", "a<\ud800b>c"),
]


@pytest.mark.parametrize(("html", "text"), SEEN, ids=[str(number) for number in range(len(SEEN))])
def test_what_a_reader_sees(html, text):
    assert visible_text(html) == text


@given(st.text() | st.text(alphabet="<>/!-=\"' \napbdivprestylhncX&;#0"))
def test_any_text_is_taken(text):
    assert isinstance(visible_text(text), str)


ENDLESS = [
    "<div>", "<b><p>", "<table><tr><td>", "<ul><li>", "<", "<!--", "</", "<a b='", "<script>", "<pre>", "&amp", "<svg>",
    "<span hidden>", "<p style=x ", "<a/", "<h1>", "<p>word</p>",
]  # fmt: skip


@pytest.mark.parametrize("part", ENDLESS)
def test_no_html_takes_more_than_its_size_says(part):
    """The parser alone takes hours for five megabytes of `<div>`."""
    began = time.process_time()
    visible_text(part * (400_000 // len(part)))
    assert time.process_time() - began < 15


@pytest.mark.parametrize("attribute", ["a{} ", "a{}=1 ", "style=x{} ", "style='x{}"])
def test_nor_does_a_tag_of_endless_attributes(attribute):
    began = time.process_time()
    assert visible_text("<p " + "".join(attribute.format(number) for number in range(30_000)) + ">x") in {"x", ""}
    assert time.process_time() - began < 15
