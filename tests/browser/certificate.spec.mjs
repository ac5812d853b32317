// How long the certificate is valid, where somebody who works in the GUI sees it.
import { picture, scene } from './chromium.mjs';

await scene({ width: 900, height: 600 }, async (page) => {
  await page.goto(process.env.PAGE);
  await page.locator('[data-link="up"]').click();
  await page.getByText(/valid 3 h \d+ m/).waitFor();
  await page.screenshot({ path: picture('certificate') });
});
