// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Looks at the page of a running `ktally export failures syscalls` in a browser:
// `node page.mjs URL PID MODULES BROWSER`, with the URL and the process number of the
// exporter, the folder that has the modules of package.json, and the browser's path.

import assert from 'node:assert/strict';
import { accessSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

const [, , url, exporter, modules, executablePath] = process.argv;
const require = createRequire(`${modules}/`);
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

// The name of this thread, as the kernel has it: a page that took it for HTML would
// have an element more.
const NAME = '<i>kt-page</i>';
process.title = NAME;

const SIZES = [{ width: 360, height: 740 }, { width: 1024, height: 768 }, { width: 1920, height: 1080 }];
const complaints = [];
let browser;

before(async () => {
	browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
});

after(async () => {
	await browser.close();
	assert.deepEqual(complaints, []);
});

// A page in a context of its own; what it complains of fails the run.
async function open(link = '', options = {}) {
	const context = await browser.newContext({ viewport: { width: 1024, height: 768 }, ...options });
	const page = await context.newPage();
	page.setDefaultTimeout(30_000);
	page.on('pageerror', error => complaints.push(error.stack));
	page.on('console', message => isComplaint(message) && complaints.push(message.text()));
	page.on('request', request => request.url().startsWith(url) || complaints.push(request.url()));
	await page.addInitScript(watchShifts);
	await page.goto(`${url}${link}`);
	return page;
}

// Chromium itself reports each answer that is no success; the page shows what it says.
const isComplaint = message => ['error', 'warning'].includes(message.type()) && !/status of 400/.test(message.text());

function watchShifts() {
	window.shifts = [];
	const told = ({ node, previousRect, currentRect }) => `${node?.id || node?.className || node?.nodeName} from ${previousRect.x},${previousRect.y} to ${currentRect.x},${currentRect.y}`;
	const add = entries => entries.forEach(({ value, hadRecentInput, sources }) => !hadRecentInput && window.shifts.push(`${value}: ${sources.map(told).join('; ')}`));
	new PerformanceObserver(list => add(list.getEntries())).observe({ type: 'layout-shift', buffered: true });
}

const until = (page, isSo, argument) => page.waitForFunction(isSo, argument, { polling: 100 });
const text = (page, id) => page.locator(`#${id}`).innerText();

// The texts of all cells of all rows that show.
const cells = page => page.$$eval('#rows tbody [role=row]', rows => rows.filter(row => row.checkVisibility())
	.map(row => [...row.cells].map(cell => cell.textContent)));

const hasRows = page => until(page, () => document.querySelector('#rows tbody [role=row]')?.checkVisibility());
const nextReading = async page => {
	const before = await text(page, 'word');
	await until(page, before => document.getElementById('word').innerText !== before, before);
};

function fail(times) {
	for (let i = 0; i < times; i++) assert.throws(() => accessSync('/dev/null/x'), { code: 'ENOTDIR' });
}

const total = page => page.$eval('#exact tr:nth-child(2) td:last-child', cell => cell.textContent);
const own = `#t=failures&f=${encodeURIComponent('comm~*kt-page* error=ENOTDIR')}`;

test('rows appear and change, with exact totals, and their names are text', async () => {
	const page = await open(own);
	await until(page, () => /^No row|^Nothing/.test(document.getElementById('empty').innerText));
	fail(23);
	await hasRows(page);
	assert.equal((await cells(page))[0][0], NAME);
	assert.equal(await page.locator('#rows i').count(), 0);
	const isTotal = number => until(page, number => document.querySelector('#exact tr:nth-child(2) td:last-child').textContent === number, number);
	await isTotal('23');
	fail(37);
	await isTotal('60');
	assert.equal(await total(page), '60');
	await page.context().close();
});

test('a heading sorts, and sorts the other way', async () => {
	const page = await open('#t=syscalls');
	await hasRows(page);
	const sorted = () => page.$eval('#rows [aria-sort]', th => [th.innerText.split(/[/ ]/)[0], th.getAttribute('aria-sort')]);
	const at = await page.$$eval('#rows th', heads => heads.findIndex(head => head.innerText.startsWith('ERRORS')));
	const errors = async () => (await cells(page)).map(row => Number(row[at].replace(/[<,]/g, '')));
	await page.click('#rows th button:text("ERRORS")');
	assert.deepEqual(await sorted(), ['ERRORS', 'descending']);
	await nextReading(page);
	const falling = await errors();
	assert.deepEqual(falling, [...falling].sort((a, b) => b - a));
	assert.ok(falling[0] > 0);
	await page.click('#rows th button:text("ERRORS")');
	assert.deepEqual(await sorted(), ['ERRORS', 'ascending']);
	await nextReading(page);
	assert.equal((await errors())[0], 0);
	assert.match(page.url(), /s=-errors/);
	await page.context().close();
});

test('a filter is the language of --where, and an error says what is wrong', async () => {
	const page = await open('#t=syscalls');
	await hasRows(page);
	await page.keyboard.press('/');
	await page.keyboard.type('com=node');
	await page.keyboard.press('Enter');
	await until(page, () => /did you mean .comm/.test(document.getElementById('message').innerText));
	assert.equal(await page.getAttribute('#filter', 'aria-invalid'), 'true');
	await page.fill('#filter', 'comm=chromium');
	await page.keyboard.press('Enter');
	await hasRows(page);
	assert.deepEqual([...new Set((await cells(page)).map(([comm]) => comm))], ['chromium']);
	await page.selectOption('#by', 'call');
	await hasRows(page);
	assert.equal(await page.$eval('#rows th', th => th.innerText), 'CALL');
	assert.equal(await page.inputValue('#by'), 'call');
	assert.match(page.url(), /b=call/);
	await page.context().close();
});

test('a row has bars, a heat map, and the same as a table', async () => {
	const page = await open('#t=syscalls');
	await until(page, () => document.querySelector('#bars').getAttribute('aria-label').includes('p99'));
	await page.locator('#rows tbody [role=row]').nth(1).click();
	const name = await page.$$eval('#rows [aria-selected=true] .name', names => names.map(it => it.textContent).join(' '));
	await until(page, name => document.getElementById('title').innerText === name, name);
	await until(page, () => document.querySelector('#bars').getAttribute('aria-label').includes('p99'));
	for (const id of ['bars', 'heat']) assert.ok(await painted(page, id) > 10, id);
	await page.mouse.move(5, 5);
	await page.click('#as-table');
	await until(page, () => document.querySelectorAll('#numbers tr').length > 1);
	await page.context().close();
});

// Pixels of the colour of what is drawn.
const painted = (page, id) => page.$eval(`#${id}`, canvas => {
	const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
	let blue = 0;
	for (let i = 0; i < data.length; i += 4) blue += data[i + 3] > 0 && data[i + 2] > data[i] + 30;
	return blue;
});

test('pause stops what is drawn, and walks back', async () => {
	const page = await open('#t=syscalls');
	await hasRows(page);
	await until(page, () => document.getElementById('past').min <= -3);
	await page.keyboard.press('Space');
	assert.match(await text(page, 'word'), /^PAUSED/);
	const [rows, now] = [await cells(page), await text(page, 'word')];
	await page.waitForTimeout(2500);
	assert.deepEqual(await cells(page), rows);
	await page.focus('#past');
	await page.keyboard.press('Home');
	assert.notEqual(await text(page, 'word'), now);
	await page.click('#pause');
	await until(page, () => /^live|^LOST|^order/.test(document.getElementById('word').innerText));
	await page.context().close();
});

test('keys move in the table, and can be turned off', async () => {
	const page = await open('#t=syscalls');
	await hasRows(page);
	await page.locator('#rows tbody [role=row]').first().click();
	await page.keyboard.press('ArrowDown');
	const second = page.locator('#rows tbody [role=row]').nth(1);
	assert.equal(await second.getAttribute('aria-selected'), 'true');
	assert.equal(await page.locator('#rows [tabindex="0"]').count(), 1);
	await page.keyboard.press('Enter');
	assert.equal(await page.evaluate(() => document.activeElement.id), 'panel');
	await page.keyboard.press('?');
	await page.uncheck('#single-keys');
	await page.keyboard.press('Escape');
	await page.keyboard.press('1');
	assert.match(page.url(), /t=syscalls/);
	await page.context().close();
});

test('nothing overlaps or grows, at any width', async () => {
	for (const viewport of SIZES) await looksWell(viewport);
});

async function looksWell(viewport) {
	const page = await open('#t=syscalls', { viewport });
	await hasRows(page);
	await nextReading(page);
	const elements = () => page.evaluate(() => document.querySelectorAll('body *').length);
	const before = await elements();
	await nextReading(page);
	await nextReading(page);
	assert.equal(await elements(), before, `elements at ${viewport.width}`);
	assert.deepEqual(await page.evaluate(overlaps), [], `at ${viewport.width}`);
	await page.context().close();
}

test('nothing moves, and axe finds nothing serious, at any width and in both themes', async () => {
	for (const viewport of SIZES) await Promise.all(['light', 'dark'].map(theme => isAccessible(viewport, theme)));
});

// Of few rows, as axe takes a while for each cell, and a column may grow with its numbers.
async function isAccessible(viewport, colorScheme) {
	const page = await open(`#t=syscalls&f=${encodeURIComponent('comm~*kt-page*')}`, { viewport, colorScheme });
	await hasRows(page);
	await nextReading(page);
	assert.deepEqual(await page.evaluate(() => window.shifts), [], `shifts at ${viewport.width}`);
	if (viewport.width < 640) await page.locator('#rows tbody [role=row]').first().click();
	await page.evaluate(axe);
	const { violations } = await page.evaluate(() => window.axe.run());
	const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
	const told = serious.map(({ id, nodes }) => [id, nodes[0].html, nodes[0].failureSummary]);
	assert.deepEqual(told, [], `at ${viewport.width}, ${colorScheme}`);
	await page.context().close();
}

// Parts and controls that cover each other or stand outside of the page.
function overlaps() {
	const found = [], { scrollWidth } = document.documentElement;
	if (scrollWidth > innerWidth) found.push(`${scrollWidth} of ${innerWidth} pixels`);
	const check = nodes => nodes.filter(node => node.checkVisibility()).forEach((node, i, all) => {
		const a = node.getBoundingClientRect();
		if (a.left < -0.5 || a.right > innerWidth + 0.5) found.push(`${node.id} is outside`);
		for (const other of all.slice(i + 1)) {
			const b = other.getBoundingClientRect();
			const isOver = Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5;
			if (isOver) found.push(`${node.id || node.outerHTML} and ${other.id || other.outerHTML}`);
		}
	});
	check(['head', 'tablist', 'tools', 'health', 'sheet', 'panel', 'foot'].map(id => document.getElementById(id)));
	check([...document.querySelectorAll('h1, #host, #word, button:not(table *), select, input:not(dialog *)')]
		.filter(node => !node.closest('dialog, #tablist') && node.id !== 'past'));
	return found;
}

test('a lost connection is said, and what was read stays', async () => {
	const page = await open('#t=syscalls');
	await hasRows(page);
	process.kill(exporter, 'SIGSTOP');
	try {
		await until(page, () => /^no reading for \d+ s, trying again/.test(document.getElementById('word').innerText));
		assert.ok((await cells(page)).length > 0);
	} finally {
		process.kill(exporter, 'SIGCONT');
	}
	await until(page, () => /^live|^LOST/.test(document.getElementById('word').innerText));
	await page.context().close();
});
