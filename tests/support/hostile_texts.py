"""Texts that try to be more than text in a page, and how a page is looked through for any that succeeded.

Whatever a text can make (an element, an address, a handler) has the word `canary` in it, and whatever it can run sets
`window.__canary`. `LOOK` finds both, and what is listed there as never made from anybody's text.
"""

ACTION = "/approve/canary"
"""Looks like one of the hive's own addresses that change something."""

RUN = "window.__canary=1"
LEAK = "http://leak.invalid/canary"

HTML = (
    f"<script>{RUN}</script>",
    f"<ScRiPt src={LEAK}></sCrIpT>",
    f"<img class=canary src=x onerror={RUN}>",
    f"<img/src=`{LEAK}`/onerror={RUN}>",
    f"<svg class=canary onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><a xlink:href='javascript:{RUN}'><text>canary</text></a></svg>",
    f"<svg><animate xlink:href=#canary attributeName=href values=javascript:{RUN} /><a id=canary></a></svg>",
    f"<svg><use href='data:image/svg+xml,<svg id=canary onload={RUN}>#canary'></svg>",
    f"<body onload={RUN}>",
    f"<details class=canary open ontoggle={RUN}>x</details>",
    f"<input class=canary autofocus onfocus={RUN}>",
    f"<video class=canary><source onerror={RUN}></video>",
    f"<iframe class=canary srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<iframe src=javascript:{RUN}></iframe>",
    f"<object class=canary data={LEAK}></object><embed class=canary src={LEAK}>",
    f"<math><mtext><table><mglyph><style><!--</style><img class=canary title='--&gt;&lt;img src=1 onerror={RUN}&gt;'>",
    f"<noscript><p title='</noscript><img class=canary src=x onerror={RUN}>'>",
    f"<svg></p><style><a class=canary id='</style><img src=1 onerror={RUN}>'>",
    f"<template><img class=canary onerror={RUN} src=x></template>",
    f"<base href={LEAK}>",
    f"<meta http-equiv=refresh content='0;url={LEAK}'>",
    f"<link rel=stylesheet href={LEAK}>",
    "<style>body{display:none} /* canary */</style>",
    f"<p class=canary style='position:fixed;inset:0;background:url({LEAK})'>Approve</p>",
    f"<form class=canary action={ACTION} method=post><button>Approve</button></form>",
    f"<button class=canary formaction={ACTION}>Approve</button>",
    f"<a class=canary href={ACTION}>Approve</a>",
    f"<a class=canary href=javascript:{RUN}>Approve</a>",
    "<div id=main class=canary>I am the page now</div>",
    f"--><!-- ]]> <![CDATA[<img class=canary src=x onerror={RUN}>]]>",
    f"</script></style></textarea></title><img class=canary src=x onerror={RUN}>",
    f"\"' autofocus onfocus={RUN} x='\"",
    f"&lt;img src=x class=canary onerror={RUN}&gt; &#60;script&#62;{RUN}&#60;/script&#62;",
    f"\u003cimg src=x onerror={RUN}\u003e ＜script＞{RUN}＜/script＞",
    f"<img\x00 src=x\x0bonerror={RUN}>",
)  # fmt: skip

MARKDOWN = (
    f"[Approve]({ACTION})",
    "[Approve](approve/canary)",
    "[Approve](//leak.invalid/canary)",
    "[Approve](?canary)",
    "[Approve](#canary)",
    f"[x](javascript:{RUN})",
    f"[x](JaVaScRiPt&colon;{RUN})",
    f"[x](&#106;avascript&#58;{RUN})",
    f"[x](java\tscript:{RUN})",
    f"[x](<javascript:{RUN}>)",
    "[x](data:text/html;base64,PHNjcmlwdD5jYW5hcnk8L3NjcmlwdD4=)",
    f"[x](vbscript:{RUN}) [y](file:///etc/canary) [z](blob:canary)",
    f"<javascript:{RUN}> <{LEAK}>",
    f"![pixel]({LEAK})",
    f'![x](x"onerror="{RUN}")',
    f"[![pixel]({LEAK})]({ACTION})",
    f"[ref]: javascript:{RUN}\n\n[ref] [go][ref]",
    f'[x](https://ok.invalid/"onmouseover="{RUN}"canary)',
    f'```html"onmouseover={RUN}\n<b class=canary>\n```',
    f"<div\n\n class=canary onclick={RUN}>\n\n",
    "> " * 200 + "canary",
    "*" * 2_000 + "canary" + "_" * 2_000,
    "[" * 1_000 + "canary" + "]" * 1_000 + "(" * 500,
    "| canary |\n| --- |\n" + "| <b>x</b> |\n" * 50,
    "{{constructor.constructor('window.__canary=1')()}} ${window.__canary=1} <%= canary %> #{canary}",
)  # fmt: skip

INVISIBLE = (
    "\u202eevorppA\u2069 \u2066canary\u2069 \u200b\u2060\ufeff",
    "\x1b[2J\x1b[31mcanary\x1b[0m \x1b]0;canary\x07 \x1b]52;c;Y2FuYXJ5\x07 \x9b31m",
    "\x1b]8;;http://leak.invalid/canary\x1b\\Approve\x1b]8;;\x1b\\",
    "one\rtwo\x08\x08\x7f\u2028\u2029canary \U000e0041\U000e0042",
    "Z\u0351\u036b\u0343\u036a\u0302a\u034b\u0320\u0347l\u0311g\u034f\u0345o canary",
)

HOSTILE: tuple[str, ...] = (*HTML, *MARKDOWN, *INVISIBLE)

NEVER = "\u202e\u2066\u2069\u200b\u2060\ufeff\x1b\x9b\x08\x7f\u2028\u2029\U000e0041"
"""What no page may show as it is."""


def marked(n: int) -> str:
    """One of the texts, by a name that is found again in the page."""
    return f"<h{n}> {HOSTILE[n]}"


def mark(n: int) -> str:
    """What begins text `n`."""
    return f"<h{n}>"


ALL = range(len(HOSTILE))

RECORD = """
    window.__violations = [];
    document.addEventListener('securitypolicyviolation',
        e => window.__violations.push(`${e.effectiveDirective} ${e.blockedURI} ${e.sample}`));
"""
"""An init script: what the page's policy refused."""

LOOK = """() => {
    const found = [...window.__violations];
    if (window.__canary) found.push('a script ran');
    const never = new Set(['IFRAME', 'FRAME', 'OBJECT', 'EMBED', 'BASE', 'VIDEO', 'AUDIO', 'IMG', 'MATH', 'TEMPLATE',
                           'FOREIGNOBJECT', 'ANIMATE', 'STYLE', 'MARQUEE', 'NOSCRIPT', 'AREA', 'APPLET']);
    const words = new Set(['title', 'aria-label', 'value', 'placeholder', 'data-key', 'data-path', 'datetime']);
    for (const e of document.querySelectorAll('*')) {
        const text = () => e.outerHTML.slice(0, 300);
        if (never.has(e.tagName.toUpperCase())) found.push(`made: ${text()}`);
        if (e.tagName === 'SCRIPT' && !/^\\/assets\\//.test(e.getAttribute('src') ?? '')) found.push(`made: ${text()}`);
        if (e.tagName === 'FORM' && e.hasAttribute('action')) found.push(`acts: ${text()}`);
        if (e.closest('.markdown') && /^(INPUT|BUTTON|FORM|TEXTAREA|SELECT|SVG)$/i.test(e.tagName))
            found.push(`made: ${text()}`);
        for (const {name, value} of e.attributes) {
            if (name.startsWith('on') || name === 'formaction' || name === 'srcdoc') found.push(`acts: ${text()}`);
            if (name === 'href' && e.tagName === 'A') {
                const to = new URL(e.href, location.href), own = to.origin === location.origin;
                if (!own && !/^(https?|mailto):$/.test(to.protocol)) found.push(`leads: ${text()}`);
                if (!own && (e.rel !== 'noopener noreferrer' || e.target !== '_blank')) found.push(`leads: ${text()}`);
                if (own && (e.closest('.markdown') || /approve\\/|canary/.test(to.pathname + to.hash)))
                    found.push(`leads: ${text()}`);
            } else if (/canary|leak\\.invalid|javascript:/i.test(value) && !words.has(name))
                found.push(`has: ${text()}`);
        }
    }
    return found;
}"""
"""What agents' texts became in a page but text."""
