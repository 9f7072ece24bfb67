// Opens a report from disk with the network off, presses its buttons, and says what happened as JSON.
// Usage: node page.mjs CHROMIUM REPORT DIR [screenshots]
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const { chromium } = createRequire(join(process.env.PLAYWRIGHT_DIR, 'x.js'))('playwright-core');
const [executablePath, report, dir, pictures] = process.argv.slice(2);

// How long things may take says nothing about the page: the test has a bound for all of it.
const timeout = 150_000;
const browser = await chromium.launch({
  executablePath,
  timeout,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking', '--host-resolver-rules=MAP * ~NOTFOUND', '--proxy-server=127.0.0.1:9'],
});
const out = { console: [], requests: [], downloads: {}, texts: {} };
try {
  const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 1280, height: 1000 }, offline: true });
  context.setDefaultTimeout(timeout);
  const page = await context.newPage();
  page.on('console', (m) => out.console.push(m.text()));
  page.on('pageerror', (e) => out.console.push(String(e)));
  page.on('request', (r) => { if (!r.url().startsWith('file:') && !r.url().startsWith('blob:')) out.requests.push(r.url()); });
  await page.goto('file://' + report);
  await page.waitForSelector('html[data-drawn]');

  const saved = async (button) => {
    const [download] = await Promise.all([page.waitForEvent('download'), button.click()]);
    const path = join(dir, download.suggestedFilename());
    await download.saveAs(path);
    return [download.suggestedFilename(), readFileSync(path)];
  };
  for (const selector of ['#csv', 'article [data-save=csv]', 'article [data-save=png]']) {
    const [name, bytes] = await saved(page.locator(selector).first());
    out.downloads[name] = name.endsWith('.png')
      ? { size: bytes.length, width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20), head: bytes.subarray(1, 4).toString() }
      : { size: bytes.length, lines: bytes.toString().split('\n').length - 1, head: bytes.toString().split('\n')[0] };
  }
  // The clipboard answers when it can, and what the button then says goes again after a while.
  await page.evaluate(() => {
    const copy = document.getElementById('copy');
    window.said = new Promise((resolve) => {
      new MutationObserver((_, o) => { o.disconnect(); resolve(copy.textContent); }).observe(copy, { childList: true });
    });
  });
  await page.locator('#copy').click();
  out.texts.copy = await page.evaluate(() => window.said);

  // The legend hides a controller in every chart, and All brings it back.
  const count = () => page.locator('.charts svg .line').count();
  out.texts.lines = await count();
  await page.locator('#legend button').first().click();
  out.texts.linesHidden = await count();
  const all = page.locator('#legend button.set');
  if (await all.count()) await all.click();
  else await page.locator('#legend button').first().click();
  out.texts.linesBack = await count();

  // Pointing at a chart shows the values and the decision.
  const chart = page.locator('.charts').first();
  await chart.scrollIntoViewIfNeeded();
  await page.evaluate(() => document.querySelector('.charts').scrollIntoView({ block: 'center' }));
  const now = await chart.boundingBox();
  await page.mouse.move(now.x + now.width / 2, 500);
  await page.locator('.charts .tip').first().waitFor();
  out.texts.tip = await page.locator('.charts .tip').first().innerText();
  if (pictures) await page.screenshot({ path: join(dir, 'tip.png') });
  await page.mouse.move(5, 5);
  out.texts.marker = await page.locator('.markers path title').first().textContent().catch(() => '');
  const pairs = page.locator('details.pairs').first();
  if (await pairs.count()) {
    await pairs.locator('summary').click();
    out.texts.pairs = await pairs.innerText();
  }
  await page.locator('#theme').click();
  out.texts.theme = await page.locator('#theme').textContent();
  await page.locator('#theme').click();

  if (pictures) {
    for (const [name, width, scheme] of [['light', 1280, 'light'], ['dark', 1280, 'dark'], ['narrow', 390, 'light'], ['narrow-dark', 390, 'dark']]) {
      const c = await browser.newContext({ viewport: { width, height: 1000 }, colorScheme: scheme, offline: true });
      const p = await c.newPage();
      await p.goto('file://' + report);
      await p.waitForSelector('html[data-drawn]');
      await p.screenshot({ path: join(dir, name + '-top.png') });
      const article = p.locator('article').first();
      await article.scrollIntoViewIfNeeded();
      const details = article.locator('details.pairs summary');
      if (await details.count()) await details.click();
      await article.screenshot({ path: join(dir, name + '-article.png') });
      const scatters = p.locator('#scatters');
      if (await scatters.count()) await scatters.screenshot({ path: join(dir, name + '-scatter.png') });
      // Nothing is wider than the screen.
      out.texts[name + 'Overflow'] = await p.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      await c.close();
    }
    await page.pdf({ path: join(dir, 'print.pdf'), format: 'A4' });
    const c = await browser.newContext({ viewport: { width: 720, height: 1000 }, offline: true });
    const p = await c.newPage();
    await p.goto('file://' + report);
    await p.waitForSelector('html[data-drawn]');
    await p.emulateMedia({ media: 'print' });
    await p.screenshot({ path: join(dir, 'print.png'), clip: { x: 0, y: 0, width: 720, height: 3200 }, fullPage: true });
    await c.close();
  } else {
    await page.setViewportSize({ width: 390, height: 844 });
    // The page draws anew in the frame in which it learns of its width.
    await page.waitForFunction(() => window.innerWidth === 390);
    await page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));
    out.texts.overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    const pdf = await page.pdf({ format: 'A4' });
    out.texts.pdf = pdf.length;
  }
} finally {
  await browser.close();
}
writeFileSync(join(dir, 'result.json'), JSON.stringify(out));
