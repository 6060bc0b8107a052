import { startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { remoteTools } from './fake-tools.ts'

/** A replica with tools, to be run as a program: it stands for the command, whose settings say nothing of them here. */
const config = loadConfig(process.env)
const logger = createLogger(config.telemetry.log_level)
const { TEST_TOOL_URL = '', TEST_TOOLS = '' } = process.env
const tools = remoteTools(TEST_TOOL_URL, TEST_TOOLS.split(','))
const app = await startApp(config, logger, { tools })
logger.info({ url: app.url }, 'listening')
