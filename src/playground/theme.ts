const name = 'sluice.theme'
const root = document.documentElement

/** As somebody has chosen it here, or else as the system has it. */
function chosen(): string | undefined {
  const theme = localStorage.getItem(name)
  return theme === 'light' || theme === 'dark' ? theme : undefined
}

function show(): void {
  const isDark = (chosen() ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark'
  root.dataset['theme'] = isDark ? 'dark' : 'light'
  const button = document.getElementById('theme-button')
  if (!button) return
  button.textContent = isDark ? 'Light' : 'Dark'
  button.setAttribute('aria-label', `Switch to the ${isDark ? 'light' : 'dark'} theme`)
}

function toggle(): void {
  localStorage.setItem(name, root.dataset['theme'] === 'dark' ? 'light' : 'dark')
  show()
}

function begin(): void {
  show()
  document.getElementById('theme-button')?.addEventListener('click', toggle)
}

show()
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show)
// This may run before the page is there, so that nothing is painted in the other theme first.
if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', begin)
else begin()
