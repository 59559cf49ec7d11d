export const UP_HELP = ''
export async function up(_args: string[], _env: Readonly<Record<string, string | undefined>>): Promise<number> {
  throw new Error('soon')
}
