import { expect, it } from 'vitest'
import { faultOfNode } from '../src/version.ts'

it('a Node that is too old is told by its version, and what to do about it', () => {
  for (const version of ['18.0.0', '20.20.2', '23.11.1'])
    expect(faultOfNode(version)).toBe(
      `this is Node ${version}, and Sluice needs 24 or later; in a checkout, npx node runs such a one`,
    )
})

it('the Node that the package asks for is good, and so are later ones', () => {
  for (const version of ['24.0.0', '24.21.0', '26.1.0', '100.0.0', process.versions.node])
    expect(faultOfNode(version)).toBeUndefined()
})
