import { budgetOf, costs, measureCosts } from './costs.ts'

/** What the budgets in `costs.ts` are set by, as a table. */
const results = await measureCosts()
const format = (value: number | undefined) =>
  value === undefined ? 'not measured' : value.toLocaleString('en', { maximumSignificantDigits: 4 })
const rows = costs.map((cost) => {
  const value = cost.value(results)
  const over = value !== undefined && value > budgetOf(cost)
  return [cost.name, format(value), format(budgetOf(cost)), over ? '  too much' : '']
})
for (const [name = '', value = '', budget = '', verdict = ''] of [['', 'now', 'budget'], ...rows]) {
  process.stdout.write(`${name.padEnd(56)}${value.padStart(14)}${budget.padStart(14)}${verdict}\n`)
}
