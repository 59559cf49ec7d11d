export async function verifyLedger(
  _o: { url: string | undefined; tokenFile: string | undefined; keyring: string | undefined; json: boolean },
  _env: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  throw new Error('soon')
}
