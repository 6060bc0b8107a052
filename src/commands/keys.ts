import { hashOf, newKey, principalName } from '../access/keyring.ts'
import { randomText } from '../core/random.ts'
import { type Command, print, UsageError } from './command.ts'

export const keys: Command = {
  name: 'keys',
  form: 'new [name]',
  summary: 'a new access key for a client, and what to put into the configuration',
  examples: [['sluice keys new alice', 'the key for alice, and the line for access.keys']],
  run({ words: [verb, name = `client-${randomText(6)}`, ...rest] }) {
    if (verb !== 'new' || rest.length > 0) throw new UsageError('the form is: keys new [name]')
    if (!principalName.safeParse(name).success) throw new UsageError('a name is 1 to 64 visible ASCII characters')
    const key = newKey()
    const sha256 = hashOf(key)
    print(`The key of ${name}. It is shown this once, and stored nowhere:

  ${key}

For access.keys in the configuration:

  - { name: ${JSON.stringify(name)}, sha256: ${sha256} }

or a line for the file that access.keys_file names:

  ${name} ${sha256}
`)
  },
}
