import { readFileSync } from 'node:fs'

interface Manifest {
  readonly version: string
  readonly engines: { readonly node: `>=${number}` }
}

function manifest(): Manifest {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as Manifest
}

export function readVersion(): string {
  return manifest().version
}

/** Why a Node of this version cannot run Sluice: it would fail somewhere within a library, with words that help nobody. */
export function faultOfNode(version: string): string | undefined {
  const oldest = Number(manifest().engines.node.slice(2))
  if (Number.parseInt(version, 10) >= oldest) return undefined
  return `this is Node ${version}, and Sluice needs ${oldest} or later; in a checkout, npx node runs such a one`
}
