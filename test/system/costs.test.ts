import { beforeAll, expect, it } from 'vitest'
import { budgetOf, costs, measureCosts, type Results } from '../../bench/costs.ts'

let results: Results
beforeAll(async () => {
  results = await measureCosts()
}, 120_000)

it.for(costs)('$name: within its budget', (cost, { skip }) => {
  const value = cost.value(results)
  // Only Linux tells how many system calls a process has made. There, nothing may go unmeasured.
  skip(value === undefined && cost.systemCalls === true && process.platform !== 'linux', 'not measured: no /proc')
  expect(value, `its budget is there to catch: ${cost.why}`).toBeLessThanOrEqual(budgetOf(cost))
})
