import { type Finding, findingsOf, productOf } from '../doctor/findings.ts'
import { examineFromPage } from './doctor-probe.ts'
import { byId, h } from './dom.ts'
import { KeyDialog } from './key.ts'

const signs = { good: ['✓', 'Good'], warning: ['!', 'Warning'], fault: ['✕', 'Fault'] } as const
const key = new KeyDialog('sluice.key', () => {})
const start = byId<HTMLButtonElement>('start')

async function examine(): Promise<void> {
  const seconds = Number(byId<HTMLSelectElement>('silence').value)
  start.disabled = true
  byId('status').textContent = seconds > 0 ? `Examining, for ${seconds} seconds …` : 'Examining …'
  byId('findings').setAttribute('aria-busy', 'true')
  try {
    const seen = await examineFromPage(key.headers(), seconds * 1_000)
    if (seen.paced?.status === 401) key.ask()
    show(findingsOf(seen), productOf(seen.paced?.headers ?? {}))
  } finally {
    start.disabled = false
    byId('findings').removeAttribute('aria-busy')
  }
}

function show(findings: readonly Finding[], product: string | undefined): void {
  byId('findings').replaceChildren(...findings.map((finding) => elementOf(finding, product)))
  const count = (level: Finding['level']) => findings.filter((each) => each.level === level).length
  const [faults, warnings] = [count('fault'), count('warning')]
  byId('status').textContent =
    faults + warnings === 0
      ? 'All is well.'
      : `${faults} ${faults === 1 ? 'fault' : 'faults'}, ${warnings} ${warnings === 1 ? 'warning' : 'warnings'}.`
}

/** Advice is for the product that was recognised, where one was. */
function elementOf({ level, says, advice }: Finding, product: string | undefined): HTMLElement {
  const [sign, word] = signs[level]
  const all = Object.entries(advice)
  const own = all.filter(([name]) => name === product || name === 'Sluice')
  const shown = own.some(([name]) => name === product) ? own : all
  const list = h(
    'dl',
    { class: 'advice' },
    ...shown.flatMap(([name, what]) => [h('dt', {}, name), h('dd', {}, h('code', {}, what))]),
  )
  return h(
    'div',
    { class: `finding ${level}` },
    h('span', { class: 'sign', role: 'img', 'aria-label': word }, sign),
    h('p', {}, says),
    shown.length > 0 && list,
  )
}

byId('examine').addEventListener('submit', (event) => {
  event.preventDefault()
  void examine()
})
