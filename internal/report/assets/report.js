// Draws the charts of the report from the data in the page. No dependencies, no
// network; without it the tables and sentences remain.
(() => {
  'use strict';

  const data = JSON.parse(document.getElementById('data').textContent);
  const SVG = 'http://www.w3.org/2000/svg';
  const LEFT = 46; // space for the labels of the vertical axis, px
  const RIGHT = 10;

  // The stacked charts. "held" series keep their value for a whole step; the others
  // are means over a step and drawn at its middle.
  const KINDS = [
    { key: 'limit', title: 'Limit', unit: 'requests in flight allowed', short: 'limit', height: 150, held: true, oracle: 'limit' },
    { key: 'pace', title: 'Pace', unit: 'requests per second allowed', short: 'pace /s', height: 110, held: true },
    { key: 'inflight', title: 'In flight', unit: 'requests', short: 'in flight', height: 110, oracle: 'limit' },
    { key: 'goodput', title: 'Goodput', unit: 'successes per second', short: 'ok /s', height: 130, rate: true, oracle: 'goodput' },
    { key: 'rejected', title: '429s', unit: 'per second', short: '429 /s', height: 110, rate: true },
    { key: 'waiting', title: 'Waiting', unit: 'requests in the guard', short: 'waiting', height: 110 },
  ];

  // What is shown: index of a controller, or 'oracle'.
  const hidden = new Set();
  // Charts whose scale the reader chose: "scenario/kind" -> logarithmic or not.
  const chosenScale = new Map();

  // --- small things ---

  function node(parent, name, attributes, text) {
    const e = document.createElement(name);
    return finish(parent, e, attributes, text);
  }
  function svg(parent, name, attributes, text) {
    const e = document.createElementNS(SVG, name);
    return finish(parent, e, attributes, text);
  }
  function finish(parent, e, attributes, text) {
    for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    if (parent) parent.appendChild(e);
    return e;
  }
  const px = (v) => Math.round(v * 10) / 10;

  // number writes three figures: 0.42, 12.3, 340, 12k.
  function number(v) {
    if (v === null || v === undefined) return '–';
    const a = Math.abs(v);
    if (a >= 1e6) return trim((v / 1e6).toPrecision(3)) + 'M';
    if (a >= 1e4) return trim((v / 1e3).toPrecision(3)) + 'k';
    if (a >= 100 || Number.isInteger(v)) return String(Math.round(v));
    return trim(v.toPrecision(a < 1 ? 2 : 3));
  }
  const trim = (s) => (s.includes('.') && !s.includes('e') ? s.replace(/\.?0+$/, '') : s);

  function perSuccess(run) {
    if (run.x) return '∞';
    if (run.r === null) return '–';
    if (run.r > 0 && run.r < 0.005) return '<0.01';
    return run.r === 0 ? '0' : run.r < 9.995 ? run.r.toFixed(2) : number(run.r);
  }

  // time writes a moment in the unit that suits the span of the axis.
  function time(s) {
    if (s < 120) return trim(s.toFixed(1)) + ' s';
    const m = Math.floor(s / 60);
    const rest = Math.floor(s - 60 * m);
    if (m >= 60) return `${Math.floor(m / 60)} h ${m % 60} min`;
    return rest ? `${m} min ${rest} s` : `${m} min`;
  }

  // --- series ---

  const DIGITS = new Map([...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'].map((c, i) => [c, i]));

  // decode turns the characters of a line into positions (in steps) and values, null for a gap.
  function decode(line) {
    if (!line || line.at) return line;
    const text = line.v;
    line.v = [];
    for (let i = 0; i + 1 < text.length; i += 2) {
      line.v.push(text[i] === '.' ? null : ((DIGITS.get(text[i]) * 64 + DIGITS.get(text[i + 1])) / 4095) * line.m);
    }
    line.at = line.v.map((_, i) => i * (line.k || 1));
    line.max = line.m;
    return line;
  }

  // valueAt is the value of a line at t seconds, null where it has none.
  function valueAt(line, step, t) {
    if (!line || !(step > 0)) return null;
    const want = Math.floor(t / step);
    let low = 0;
    let high = line.at.length - 1;
    if (want < 0 || want > line.at[high] + (line.k || 1)) return null;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (line.at[middle] <= want) low = middle;
      else high = middle - 1;
    }
    return line.v[low];
  }

  function path(line, step, held, x, y) {
    let d = '';
    let pen = false;
    const shift = held ? 0 : (line.k || 1) / 2;
    for (let i = 0; i < line.v.length; i++) {
      const v = line.v[i];
      if (v === null) {
        pen = false;
        continue;
      }
      const X = px(x((line.at[i] + shift) * step));
      const Y = px(y(v));
      if (!pen) d += `M${X} ${Y}`;
      else d += held ? `H${X}V${Y}` : `L${X} ${Y}`;
      pen = true;
      if (held && (i === line.v.length - 1 || line.v[i + 1] === null)) d += `H${px(x((line.at[i] + (line.k || 1)) * step))}`;
    }
    return d;
  }

  // band draws the area between two edges.
  function band(low, high, step, x, y) {
    let d = '';
    for (let from = 0; from < low.v.length; from++) {
      if (low.v[from] === null || high.v[from] === null) continue;
      let to = from;
      while (to + 1 < low.v.length && low.v[to + 1] !== null && high.v[to + 1] !== null) to++;
      const at = (i) => px(x((low.at[i] + (low.k || 1) / 2) * step));
      const upper = [];
      const lower = [];
      for (let i = from; i <= to; i++) {
        upper.push(`${at(i)} ${px(y(high.v[i]))}`);
        lower.unshift(`${at(i)} ${px(y(low.v[i]))}`);
      }
      d += `M${upper.join('L')}L${lower.join('L')}Z`;
      from = to;
    }
    return d;
  }

  // --- axes ---

  // linearTicks gives about n round values from 0 to at least max.
  function linearTicks(max, n) {
    const raw = max / n;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999);
    const ticks = [];
    for (let i = 0; i * step < max * 1.001 + step * 0.999 && i < 20; i++) {
      ticks.push(Number((i * step).toPrecision(12)));
      if (i * step >= max * 0.999) break;
    }
    return ticks;
  }

  // scaleOf chooses the vertical scale for the lines shown. When one line is far
  // above the rest it would press them flat: then the scale is logarithmic above
  // the knee, linear below it, so that zero can be drawn. Rates stay linear, as the
  // area below them is a count.
  function scaleOf(maxima, height, rate, logarithmic) {
    const sorted = maxima.filter((m) => m > 0).sort((a, b) => a - b);
    const max = sorted.length ? sorted[sorted.length - 1] : 1;
    const middle = sorted.length ? sorted[(sorted.length - 1) >> 1] : 1;
    const wants = !rate && max > 8 * middle;
    const log = logarithmic === undefined ? wants : logarithmic;
    if (!log) {
      const ticks = linearTicks(max, Math.max(2, Math.round(height / 32)));
      const top = max * 1.05;
      return { log, ticks: ticks.filter((v) => v <= top), y: (v) => height - (Math.max(0, v) / top) * height };
    }
    const knee = 10 ** Math.floor(Math.log10(Math.max(middle / 10, max / 1e4, 1e-3)));
    const f = (v) => Math.log1p(Math.max(0, v) / knee);
    const top = f(max * 1.05);
    const ticks = [0];
    for (let v = knee; v <= max * 1.05; v *= 10) ticks.push(Number(v.toPrecision(6)));
    return { log, ticks, y: (v) => height - (f(v) / top) * height };
  }

  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 432000, 864000];

  function timeTicks(span, width) {
    const step = STEPS.find((s) => (s / span) * width >= 70) || span;
    const ticks = [];
    for (let i = 0; i * step <= span * 1.0001; i++) ticks.push(Number((i * step).toPrecision(10)));
    const label = step >= 3600 ? (s) => `${trim(String(s / 3600))} h` : step >= 60 ? (s) => `${s / 60} min` : (s) => `${s} s`;
    return ticks.map((at) => ({ at, label: at === 0 ? '0' : label(at) }));
  }

  // --- time lines ---

  const sections = [];

  class Section {
    constructor(root, scenario, index) {
      this.root = root;
      this.scenario = scenario;
      this.index = index;
      this.span = scenario.span > 0 ? scenario.span : 1;
      const all = scenario.runs.flatMap((r) => [r.lines, r.low, r.high]);
      for (const lines of [scenario.oracle, ...all]) {
        if (lines) for (const kind of KINDS) decode(lines[kind.key]);
      }
      this.kinds = KINDS.filter((k) => scenario.runs.some((r) => r.lines[k.key]));
      this.decided = scenario.runs.some((r) => r.d.t);
      root.tabIndex = 0;
      root.setAttribute('role', 'group');
      root.setAttribute('aria-label', `Time lines of ${scenario.name}. Arrow keys move the cursor, Escape hides it.`);
      this.figures = new Map();
      for (const kind of this.kinds) {
        const line = scenario.runs.map((r) => r.lines[kind.key]).find((l) => l && l.k > 1);
        const mean = line ? `, ${kind.rate ? 'mean of' : 'a value each'} ${time(line.k * scenario.runs[0].lines.step)}` : '';
        this.figure(kind.key, kind.title, kind.unit + mean, true);
        if (kind.key === 'limit' && this.decided) this.figure('decisions', 'Decisions', 'up: more allowed, down: less', false);
      }
      if (!this.kinds.includes(KINDS[0]) && this.decided) this.figure('decisions', 'Decisions', 'up: more allowed, down: less', false);
      this.toolbar(document.querySelector(`[data-tools="s${index}"]`));
      this.tip = node(root, 'div', { class: 'tip' });
      this.tip.hidden = true;
      root.addEventListener('pointermove', (e) => this.point(e));
      root.addEventListener('pointerdown', (e) => this.point(e));
      root.addEventListener('pointerleave', (e) => {
        if (e.pointerType !== 'touch') this.leave(); // a lifted finger leaves the values to be read
      });
      root.addEventListener('blur', () => this.leave());
      root.addEventListener('keydown', (e) => this.key(e));
    }

    figure(key, title, unit, scaled) {
      const figure = node(this.root, 'figure', { 'data-kind': key });
      const caption = node(figure, 'figcaption', {}, title);
      node(caption, 'span', {}, unit);
      let button = null;
      if (scaled) {
        button = node(caption, 'button', { type: 'button', class: 'scale', 'aria-pressed': 'false' }, 'log scale');
        button.addEventListener('click', () => {
          chosenScale.set(`${this.index}/${key}`, button.getAttribute('aria-pressed') !== 'true');
          this.draw();
        });
      }
      this.figures.set(key, { figure, button });
    }

    shown() {
      return this.scenario.runs.filter((r) => !hidden.has(r.c));
    }

    draw() {
      this.width = Math.max(260, this.root.clientWidth || 680);
      this.plot = this.width - LEFT - RIGHT;
      this.x = (s) => LEFT + (s / this.span) * this.plot;
      this.cursors = [];
      this.marks = [];
      const last = this.kinds.length ? this.kinds[this.kinds.length - 1].key : '';
      for (const kind of this.kinds) this.drawKind(kind, kind.key === last);
      if (this.decided) this.drawDecisions();
      if (this.at !== undefined) this.show(this.at, null);
    }

    canvas(key, height, extra, label) {
      const { figure } = this.figures.get(key);
      const old = figure.querySelector('svg');
      if (old) old.remove();
      return svg(figure, 'svg', { viewBox: `0 -6 ${this.width} ${height + 6 + extra}`, role: 'img', 'aria-label': label });
    }

    drawKind(kind, labelled) {
      const runs = this.shown().filter((r) => r.lines[kind.key]);
      const oracle = kind.oracle && !hidden.has('oracle') ? this.scenario.oracle[kind.oracle] : null;
      const maxima = runs.map((r) => Math.max(r.lines[kind.key].max, data.controllers[r.c].ours && r.high && r.high[kind.key] ? r.high[kind.key].max : 0));
      if (oracle) maxima.push(oracle.max);
      const h = kind.height;
      const scale = scaleOf(maxima, h, kind.rate, chosenScale.get(`${this.index}/${kind.key}`));
      const button = this.figures.get(kind.key).button;
      button.setAttribute('aria-pressed', String(scale.log));
      const s = this.canvas(kind.key, h, labelled ? 22 : 4, `${kind.title}, ${kind.unit}, over time`);
      for (const v of scale.ticks) {
        const y = px(scale.y(v));
        svg(s, 'line', { class: v === 0 ? 'grid base' : 'grid', x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y });
        svg(s, 'text', { x: LEFT - 8, y: y + 3.5, 'text-anchor': 'end' }, number(v));
      }
      if (labelled) {
        for (const t of timeTicks(this.span, this.plot)) {
          const x = px(this.x(t.at));
          svg(s, 'line', { class: 'grid base', x1: x, x2: x, y1: h, y2: h + 4 });
          const anchor = x > this.width - RIGHT - 14 ? 'end' : 'middle';
          svg(s, 'text', { x: anchor === 'end' ? this.width : x, y: h + 17, 'text-anchor': anchor }, t.label);
        }
      }
      if (oracle) {
        svg(s, 'path', { class: 'line oracle', d: path(oracle, this.scenario.oracle.step, true, this.x, scale.y) });
      }
      // Ours last, so that it lies on top.
      const order = [...runs].sort((a, b) => rankOf(a) - rankOf(b));
      for (const run of order) {
        const c = data.controllers[run.c];
        const low = run.low && run.low[kind.key];
        const high = run.high && run.high[kind.key];
        if (low && high) {
          const y = (v) => Math.max(-4, scale.y(v)); // those that are only shown when pointed at may be higher than the chart
          svg(s, 'path', { class: `band ${c.class}`, 'data-c': run.c, d: band(low, high, run.low.step, this.x, y) });
        }
        svg(s, 'path', {
          class: `line ${c.class}`, 'data-c': run.c, d: path(run.lines[kind.key], run.lines.step, kind.held, this.x, scale.y),
        });
      }
      if (kind.key === 'limit') {
        const ours = runs.find((r) => data.controllers[r.c].ours && r.d.t);
        if (ours) this.drawMarkers(s, ours, scale.y);
      }
      this.cursors.push(svg(s, 'line', { class: 'cursor', y1: 0, y2: h }));
      for (const run of order) {
        const mark = svg(s, 'circle', { class: `mark ${data.controllers[run.c].class}`, r: 3.5 });
        this.marks.push({ mark, run, key: kind.key, y: scale.y });
      }
    }

    // drawMarkers puts a triangle with its cause at each decision of ours, on its limit.
    drawMarkers(s, run, y) {
      const c = data.controllers[run.c];
      const g = svg(s, 'g', { class: `markers ${c.class}`, 'data-c': run.c });
      for (let k = 0; k < run.d.t.length; k++) {
        if (!run.d.s[k] || run.d.l[k] === 0 || run.d.t[k] > this.span) continue;
        const x = px(this.x(run.d.t[k]));
        const at = px(y(run.d.l[k]));
        const d = run.d.s[k] > 0 ? `M${x - 3} ${at + 3}h6l-3 -6z` : `M${x - 4} ${at - 3}h8l-4 7z`;
        const mark = svg(g, 'path', { class: run.d.s[k] > 0 ? 'up' : 'down', d });
        svg(mark, 'title', {}, `${c.name} at ${time(run.d.t[k])}: ${explain(run.d, k)}`);
      }
    }

    // toolbar has the buttons that save what the charts show.
    toolbar(root) {
      if (!root) return;
      const csv = node(root, 'button', { type: 'button', 'data-save': 'csv' }, 'Time lines as CSV');
      csv.addEventListener('click', () => save(fileName(this.scenario.name, 'csv'), new Blob([this.csv()], { type: 'text/csv' })));
      const png = node(root, 'button', { type: 'button', 'data-save': 'png' }, 'Charts as PNG');
      png.addEventListener('click', () => {
        png.disabled = true;
        this.png()
          .then((blob) => save(fileName(this.scenario.name, 'png'), blob))
          .catch((e) => { document.getElementById('live').textContent = `The picture could not be made: ${e.message}`; })
          .finally(() => { png.disabled = false; });
      });
    }

    // csv is the time lines of the controllers that are shown, one line for each controller and point.
    csv() {
      const runs = this.shown();
      const head = ['controller', 't_s'];
      for (const k of this.kinds) head.push(k.key, `${k.key}_p10`, `${k.key}_p90`);
      const rows = [head];
      for (const run of runs) {
        const step = run.lines.step;
        const times = new Set();
        for (const k of this.kinds) if (run.lines[k.key]) for (const at of run.lines[k.key].at) times.add(at);
        for (const at of [...times].sort((a, b) => a - b)) {
          const t = at * step;
          const row = [cell(data.controllers[run.c].name), Number(t.toPrecision(9))];
          for (const k of this.kinds) {
            for (const lines of [run.lines, run.low, run.high]) {
              const v = lines ? valueAt(lines[k.key], lines.step, t) : null;
              row.push(v === null ? '' : Number(v.toPrecision(5)));
            }
          }
          rows.push(row);
        }
      }
      return rows.map((r) => r.join(',')).join('\n') + '\n';
    }

    // png draws all charts of the scenario below each other into one picture, in the colours that are shown.
    async png() {
      const pieces = [...this.figures.values()].map((f) => f.figure).filter((f) => f.querySelector('svg'));
      const back = getComputedStyle(document.body).backgroundColor;
      const ink = getComputedStyle(document.body).color;
      const out = document.createElementNS(SVG, 'svg');
      out.setAttribute('xmlns', SVG);
      const gap = 26;
      let top = 64;
      const text = (s, x, y, size, weight, fill) => svg(out, 'text', { x, y, fill, 'font-size': size, 'font-weight': weight, 'font-family': 'system-ui, sans-serif' }, s);
      svg(out, 'rect', { width: '100%', height: '100%', fill: back });
      text(this.scenario.name, LEFT, 24, 17, 650, ink);
      let x = LEFT;
      let row = 44;
      for (const run of this.shown()) {
        const c = data.controllers[run.c];
        const wide = 34 + c.name.length * 7.5;
        if (x > LEFT && x + wide > this.width) {
          x = LEFT;
          row += 20;
        }
        const probe = svg(pieces[0].querySelector('svg'), 'path', { class: `line ${c.class}` });
        const color = getComputedStyle(probe).stroke;
        probe.remove();
        svg(out, 'rect', { x, y: row - 6, width: 14, height: 4, fill: color });
        text(c.name, x + 19, row, 12, c.ours ? 650 : 400, ink);
        x += wide;
      }
      top = row + 20;
      for (const f of pieces) {
        const from = f.querySelector('svg');
        const box = from.viewBox.baseVal;
        const g = svg(out, 'g', { transform: `translate(0 ${top + gap})` });
        text(f.querySelector('figcaption').firstChild.textContent, LEFT, top + gap - 10, 12, 600, ink);
        copyDrawn(from, g);
        top += box.height + gap;
      }
      const height = Math.ceil(top + 16);
      out.setAttribute('width', this.width);
      out.setAttribute('height', height);
      out.setAttribute('viewBox', `0 0 ${this.width} ${height}`);
      const url = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(out)], { type: 'image/svg+xml' }));
      try {
        const image = new Image();
        await new Promise((resolve, reject) => {
          image.onload = resolve;
          image.onerror = () => reject(new Error('the browser does not draw it'));
          image.src = url;
        });
        const canvas = document.createElement('canvas');
        canvas.width = 2 * this.width;
        canvas.height = 2 * height;
        const pen = canvas.getContext('2d');
        pen.drawImage(image, 0, 0, canvas.width, canvas.height);
        return await new Promise((resolve, reject) => canvas.toBlob((b) => (b ? resolve(b) : reject(new Error('the picture is empty'))), 'image/png'));
      } finally {
        URL.revokeObjectURL(url);
      }
    }

    drawDecisions() {
      const runs = this.shown().filter((r) => r.d.t);
      const row = 15;
      const h = Math.max(row, row * runs.length);
      const s = this.canvas('decisions', h, 2, 'Decisions of each controller over time');
      this.rows = runs;
      this.rowHeight = row;
      runs.forEach((run, i) => {
        const c = data.controllers[run.c];
        const middle = i * row + row / 2;
        svg(s, 'line', { class: 'grid', x1: LEFT, x2: this.width - RIGHT, y1: middle, y2: middle });
        let more = '';
        let less = '';
        for (let k = 0; k < run.d.t.length; k++) {
          if (run.d.t[k] > this.span) break; // of the drain
          const x = px(this.x(run.d.t[k]));
          if (run.d.s[k] < 0) less += `M${x} ${middle - 1}V${middle + 6}`;
          else more += `M${x} ${middle + 1}V${middle - 5}`;
        }
        svg(s, 'rect', { class: `dot ${c.class}`, x: LEFT - 22, y: middle - 2, width: 14, height: 4, rx: 2 });
        if (more) svg(s, 'path', { class: `tick more ${c.class}`, 'data-c': run.c, d: more });
        if (less) svg(s, 'path', { class: `tick less ${c.class}`, 'data-c': run.c, d: less });
      });
      this.cursors.push(svg(s, 'line', { class: 'cursor', y1: 0, y2: h }));
    }

    point(event) {
      if (event.target.closest('button')) return;
      const box = this.root.getBoundingClientRect();
      const x = (event.clientX - box.left) * (this.width / box.width);
      if (x < LEFT - 8 || x > this.width) {
        this.leave();
        return;
      }
      this.show(Math.min(this.span, Math.max(0, ((x - LEFT) / this.plot) * this.span)), event);
    }

    leave() {
      this.at = undefined;
      this.tip.hidden = true;
      for (const c of this.cursors) c.style.visibility = 'hidden';
      for (const m of this.marks) m.mark.style.visibility = 'hidden';
    }

    key(event) {
      const step = this.span / (event.shiftKey ? 20 : 200);
      const from = this.at === undefined ? 0 : this.at;
      const to = { ArrowLeft: from - step, ArrowRight: from + step, Home: 0, End: this.span }[event.key];
      if (event.key === 'Escape') {
        this.leave();
        return;
      }
      if (to === undefined || event.target !== this.root) return;
      event.preventDefault();
      this.show(Math.min(this.span, Math.max(0, to)), null);
      this.say();
    }

    show(t, event) {
      this.at = t;
      const x = px(this.x(t));
      for (const c of this.cursors) {
        c.setAttribute('x1', x);
        c.setAttribute('x2', x);
        c.style.visibility = 'visible';
      }
      for (const m of this.marks) {
        const v = valueAt(m.run.lines[m.key], m.run.lines.step, t);
        m.mark.style.visibility = v === null ? 'hidden' : 'visible';
        if (v !== null) {
          m.mark.setAttribute('cx', x);
          m.mark.setAttribute('cy', px(m.y(v)));
        }
      }
      this.fill(t, event);
      this.tip.hidden = false;
      this.place(x, event);
    }

    // fill writes the table of values at t.
    fill(t, event) {
      const tip = this.tip;
      tip.textContent = '';
      const table = node(tip, 'table');
      const head = node(node(table, 'thead'), 'tr');
      node(node(head, 'th'), 'b', {}, time(t));
      for (const k of this.kinds) node(head, 'th', {}, k.short);
      if (this.decided) node(head, 'th', { class: 'wide' }, 'last decision');
      const body = node(table, 'tbody');
      if (!hidden.has('oracle') && (this.scenario.oracle.limit || this.scenario.oracle.goodput)) {
        const tr = node(body, 'tr');
        const th = node(tr, 'th');
        node(th, 'span', { class: 'key oracle' });
        th.append('oracle');
        for (const k of this.kinds) {
          const line = k.oracle && k.key !== 'inflight' ? this.scenario.oracle[k.oracle] : null;
          node(tr, 'td', {}, line ? number(valueAt(line, this.scenario.oracle.step, t)) : '');
        }
        if (this.decided) node(tr, 'td', { class: 'wide' });
      }
      for (const run of this.shown()) {
        const c = data.controllers[run.c];
        const tr = node(body, 'tr', c.ours ? { class: 'ours' } : {});
        const th = node(tr, 'th');
        node(th, 'span', { class: `key ${c.class}` });
        th.append(c.name);
        for (const k of this.kinds) node(tr, 'td', {}, number(valueAt(run.lines[k.key], run.lines.step, t)));
        if (this.decided) {
          const k = before(run.d.t, t);
          node(tr, 'td', { class: 'why wide' }, k < 0 ? '' : `${decision(run.d, k)}, ${ago(t - run.d.t[k])}`);
        }
      }
      const picked = this.pick(t, event);
      if (picked) {
        const { run, k } = picked;
        const c = data.controllers[run.c];
        const p = node(tip, 'p');
        node(p, 'span', { class: `key ${c.class}` });
        node(p, 'b', {}, c.name);
        p.append(` at ${time(run.d.t[k])}: ${explain(run.d, k)}`);
      }
    }

    // pick finds the decision under the pointer in the decisions chart, or ours
    // close to the cursor anywhere else.
    pick(t, event) {
      if (!this.decided || !this.rows || !this.rows.length) return null;
      const reach = (8 / this.plot) * this.span;
      let run = this.rows.find((r) => data.controllers[r.c].ours);
      const lane = event && event.target.closest('[data-kind="decisions"] svg');
      if (lane) {
        const box = lane.getBoundingClientRect();
        const y = ((event.clientY - box.top) / box.height) * (this.rowHeight * this.rows.length + 8) - 6;
        run = this.rows[Math.min(this.rows.length - 1, Math.max(0, Math.floor(y / this.rowHeight)))];
      }
      if (!run) return null;
      let k = before(run.d.t, t);
      if (k + 1 < run.d.t.length && (k < 0 || run.d.t[k + 1] - t < t - run.d.t[k])) k++;
      return k >= 0 && Math.abs(run.d.t[k] - t) <= reach ? { run, k } : null;
    }

    place(x, event) {
      const tip = this.tip;
      const box = this.root.getBoundingClientRect();
      const shown = tip.getBoundingClientRect();
      const at = x * (box.width / this.width);
      const left = at + 16 + shown.width < box.width ? at + 16 : Math.max(0, at - 16 - shown.width);
      let top = event ? event.clientY - box.top + 16 : 12;
      top = Math.min(top, window.innerHeight - box.top - shown.height - 12);
      tip.style.left = `${Math.round(left)}px`;
      tip.style.top = `${Math.round(Math.max(0, top))}px`;
    }

    // say tells a screen reader what the cursor shows for ours, or for the first.
    say() {
      const runs = this.shown();
      const run = runs.find((r) => data.controllers[r.c].ours) || runs[0];
      if (!run) return;
      const values = this.kinds.map((k) => `${k.title} ${number(valueAt(run.lines[k.key], run.lines.step, this.at))}`);
      document.getElementById('live').textContent = `${time(this.at)}, ${data.controllers[run.c].name}: ${values.join(', ')}`;
    }
  }

  // copyDrawn copies what is drawn with the styles that it is drawn with.
  const STYLES = ['fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linejoin', 'opacity', 'font-size', 'font-weight', 'font-family', 'text-anchor'];
  function copyDrawn(from, to) {
    for (const e of from.children) {
      const style = getComputedStyle(e);
      if (style.visibility === 'hidden' || style.display === 'none' || e.tagName === 'title') continue;
      const copy = e.cloneNode(false);
      copy.removeAttribute('class');
      for (const name of STYLES) copy.setAttribute(name, style.getPropertyValue(name));
      if (e.children.length) copyDrawn(e, copy);
      else if (e.tagName === 'text') copy.textContent = e.textContent;
      to.appendChild(copy);
    }
  }

  // cell is a text in CSV; one that a spreadsheet would take for a formula is quoted for it.
  function cell(s) {
    const safe = /^[=+@-]/.test(s) ? `'${s}` : s;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  const fileName = (name, ending) => `${name.replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 60) || 'report'}.${ending}`;

  function save(name, blob) {
    const a = node(document.body, 'a', { download: name });
    a.href = URL.createObjectURL(blob);
    a.click();
    a.remove();
    setTimeout(() => URL.revokeObjectURL(a.href), 10000);
  }

  // tools are the buttons at the top.
  function tools() {
    const csv = document.getElementById('csv');
    csv.hidden = !data.scenarios.length;
    csv.addEventListener('click', () => {
      const rows = [['scenario', 'controller', 'goodput', 'goodput_low', 'goodput_high', 'rejected_per_ok', 'rejected_low', 'rejected_high']];
      const v = (x) => (x === null || x === undefined ? '' : x);
      for (const s of data.scenarios) {
        for (const r of s.runs) {
          const gi = r.gi || [];
          const ri = r.ri || [];
          rows.push([cell(s.name), cell(data.controllers[r.c].name), v(r.g), v(gi[0]), v(gi[1]), v(r.r), v(ri[0]), v(ri[1])]);
        }
      }
      save('summary.csv', new Blob([rows.map((r) => r.join(',')).join('\n') + '\n'], { type: 'text/csv' }));
    });
    const copy = document.getElementById('copy');
    const command = document.querySelector('.facts code');
    if (!command) return;
    copy.hidden = false;
    copy.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(command.textContent);
        copy.textContent = 'Copied';
      } catch {
        // Where the clipboard is not to be had, the command is selected, ready for Ctrl-C.
        getSelection().selectAllChildren(command);
        command.scrollIntoView({ block: 'center' });
        copy.textContent = 'Selected: press Ctrl-C';
      }
      setTimeout(() => { copy.textContent = 'Copy command'; }, 3000);
    });
  }

  const rankOf = (run) => (data.controllers[run.c].ours ? 2 : data.controllers[run.c].ref ? 0 : 1);

  // before is the index of the last time at or before t, -1 if there is none.
  function before(times, t) {
    if (!times) return -1;
    let k = -1;
    for (let i = 0; i < times.length && times[i] <= t; i++) k = i;
    return k;
  }

  const ago = (s) => (s < 0.05 ? 'now' : `${time(s)} ago`);
  const limitText = (n) => (n === 0 ? '∞' : String(n));

  // decision is short: "12 → 8 overload".
  function decision(d, k) {
    const cause = data.words[d.c[k]];
    const change = d.f[k] < 0 || d.f[k] === d.l[k] ? limitText(d.l[k]) : `${limitText(d.f[k])} → ${limitText(d.l[k])}`;
    return cause ? `${change} ${cause}` : change;
  }

  // explain is complete: limit, pace, cause, what binds, and what it stands for.
  function explain(d, k) {
    const parts = [];
    if (d.f[k] >= 0 && d.f[k] !== d.l[k]) parts.push(`limit ${limitText(d.f[k])} → ${limitText(d.l[k])}`);
    else parts.push(`limit ${limitText(d.l[k])}`);
    if (d.p && d.p[k] > 0) parts.push(`pace ${number(d.p[k])} per second`);
    if (data.words[d.c[k]]) parts.push(`cause: ${data.words[d.c[k]]}`);
    if (data.words[d.b[k]]) parts.push(`binding: ${data.words[d.b[k]]}`);
    if (d.m[k] > 0) parts.push(`and ${d.m[k]} more around it`);
    return parts.join(', ');
  }

  // --- trade-off ---

  function drawScatters() {
    const root = document.getElementById('scatters');
    if (!root) return;
    root.textContent = '';
    for (const scenario of data.scenarios) {
      const figure = node(root, 'figure');
      node(figure, 'figcaption', {}, scenario.name);
      drawScatter(figure, scenario);
    }
  }

  function drawScatter(figure, scenario) {
    const width = Math.max(240, figure.clientWidth || 320);
    const height = 190;
    const bottom = 34;
    const s = svg(figure, 'svg', {
      viewBox: `0 -8 ${width} ${height + bottom + 8}`, role: 'img', 'aria-label': `Goodput against 429s per success in ${scenario.name}`,
    });
    const top = Math.max(1, ...scenario.runs.map((r) => r.g || 0));
    // 429s grow to the left; 0.01 and 10 are the marks between which it matters.
    const most = Math.log1p(30 / 0.02);
    const x = (r) => width - 14 - (Math.log1p(Math.min(30, r) / 0.02) / most) * (width - LEFT - 24);
    const y = (g) => height - (Math.max(0, g) / top) * height;
    for (const g of [0, 0.25, 0.5, 0.75, 1]) {
      svg(s, 'line', { class: g ? 'grid' : 'grid base', x1: LEFT, x2: width - 4, y1: px(y(g)), y2: px(y(g)) });
      svg(s, 'text', { x: LEFT - 8, y: px(y(g)) + 3.5, 'text-anchor': 'end' }, g === 1 ? '100 %' : `${g * 100}`);
    }
    for (const r of [0, 0.1, 1, 10]) {
      svg(s, 'line', { class: 'grid', x1: px(x(r)), x2: px(x(r)), y1: 0, y2: height });
      svg(s, 'text', { x: px(x(r)), y: height + 15, 'text-anchor': 'middle' }, String(r));
    }
    svg(s, 'text', { x: LEFT + (width - LEFT) / 2, y: height + 29, 'text-anchor': 'middle' }, '429s per success (fewer →)');

    const score = (run) => (run.x ? -1 : (run.g || 0) * (1 - data.price * (run.r || 0)));
    const ranked = scenario.runs.filter((r) => !data.controllers[r.c].ref);
    const pivot = ranked.find((r) => data.controllers[r.c].ours) || ranked.sort((a, b) => score(b) - score(a))[0];
    if (pivot && score(pivot) > 0) {
      let d = '';
      for (let r = 0; r < 9.9; r = r * 1.15 + 0.005) {
        const g = score(pivot) / (1 - data.price * r);
        if (g > top * 1.02) break;
        d += `${d ? 'L' : 'M'}${px(x(r))} ${px(y(g))}`;
      }
      svg(s, 'path', { class: 'same', d });
    }
    for (const run of [...scenario.runs].sort((a, b) => rankOf(a) - rankOf(b))) {
      if (hidden.has(run.c)) continue;
      const c = data.controllers[run.c];
      const at = { cx: px(x(run.x ? 30 : run.r || 0)), cy: px(y(run.g || 0)) };
      const bar = (lo, hi, f) => [f(lo), f(hi)].map(px);
      if (run.gi) {
        // An interval over two seeds may be far wider than the chart is high.
        const [a, b] = bar(Math.min(top, run.gi[0]), Math.min(top, run.gi[1]), y);
        svg(s, 'path', { class: `bar ${c.class}`, 'data-c': run.c, d: `M${at.cx} ${a}V${b}` });
      }
      if (run.ri && !run.x) {
        const [a, b] = bar(Math.max(0, run.ri[0]), run.ri[1], x);
        svg(s, 'path', { class: `bar ${c.class}`, 'data-c': run.c, d: `M${a} ${at.cy}H${b}` });
      }
      const dot = svg(s, 'circle', { class: `dot ${c.class}`, r: c.ours ? 7 : 5.5, 'data-c': run.c, ...at });
      svg(dot, 'title', {}, `${c.name}: goodput ${run.g === null ? '–' : Math.round(run.g * 100) + ' %'}, ${perSuccess(run)} 429s per success`);
      if (c.ours) {
        // The label goes where it does not leave the chart.
        const end = at.cx > width - 90;
        svg(s, 'text', { class: 'name', x: end ? at.cx - 11 : at.cx + 11, y: at.cy + 4, 'text-anchor': end ? 'end' : 'start' }, c.name);
      }
    }
  }

  // --- legend and theme ---

  function drawLegend() {
    const legend = document.getElementById('legend');
    if (!legend) return;
    legend.hidden = false;
    const buttons = new Map();
    const toggle = (id, keyClass, name) => {
      const b = node(legend, 'button', { type: 'button', 'aria-pressed': 'true' });
      node(b, 'span', { class: `key ${keyClass}` });
      b.append(name);
      buttons.set(id, b);
      b.addEventListener('click', () => {
        if (!hidden.delete(id)) hidden.add(id);
        refresh();
      });
      const light = (on) => () => {
        document.body.classList.toggle('lit', on && !hidden.has(id));
        for (const e of document.querySelectorAll('.on')) e.classList.remove('on');
        if (on) for (const e of document.querySelectorAll(id === 'oracle' ? '.line.oracle' : `[data-c="${id}"]`)) e.classList.add('on');
      };
      b.addEventListener('pointerenter', light(true));
      b.addEventListener('pointerleave', light(false));
      b.addEventListener('focus', () => {
        if (b.matches(':focus-visible')) light(true)();
      });
      b.addEventListener('blur', light(false));
    };
    const refresh = () => {
      for (const [id, b] of buttons) b.setAttribute('aria-pressed', String(!hidden.has(id)));
      document.body.classList.remove('lit');
      drawAll();
    };
    data.controllers.forEach((c, i) => toggle(i, c.class, c.name));
    if (data.scenarios.some((s) => s.oracle.limit || s.oracle.goodput)) toggle('oracle', 'oracle', 'oracle');
    if (data.controllers.length > 2) {
      const all = node(legend, 'button', { type: 'button', class: 'set' }, 'All');
      all.addEventListener('click', () => {
        hidden.clear();
        refresh();
      });
    }
  }

  function themeButton() {
    const button = document.getElementById('theme');
    const order = ['auto', 'light', 'dark'];
    let now = 'auto';
    const apply = () => {
      if (now === 'auto') delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = now;
      button.textContent = `Theme: ${now}`;
    };
    button.hidden = false;
    button.addEventListener('click', () => {
      now = order[(order.indexOf(now) + 1) % order.length];
      apply();
    });
    apply();
  }

  function drawAll() {
    for (const s of sections) s.draw();
    drawScatters();
  }

  themeButton();
  tools();
  drawLegend();
  for (const root of document.querySelectorAll('.charts')) {
    const index = Number(root.dataset.scenario.slice(1));
    sections.push(new Section(root, data.scenarios[index], index));
  }
  drawAll();

  let width = window.innerWidth;
  let waiting = 0;
  window.addEventListener('resize', () => {
    if (window.innerWidth === width) return; // a phone's address bar comes and goes
    width = window.innerWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(drawAll);
  });
  document.documentElement.dataset.drawn = String(document.querySelectorAll('.charts svg .line').length);
})();
