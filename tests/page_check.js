// page_check.js - what a browser says of a page that stands in iframes of several widths; run by test_matrix_show.c.
// Every text must have a contrast of 4.5 against what is behind it (WCAG 2.2, 1.4.3), and nothing but boxes of their own may scroll
// sideways. The last line is DONE.
'use strict';

function channels(color) { // of "rgb(...)", "rgba(...)", "color(srgb ...)"
    const scale = color.startsWith('color(') ? 255 : 1;
    const v = color.match(/[\d.]+/g).map(Number);
    return [v[0] * scale, v[1] * scale, v[2] * scale, v[3] === undefined ? 1 : v[3]];
}

function over(top, below) {
    return [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
}

function luminance(color) {
    const linear = color.slice(0, 3).map(c => c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function background(element, view) {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
        layers.push(channels(view.getComputedStyle(e).backgroundColor));
        if (layers[layers.length - 1][3] === 1)
            break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
}

function contrast(element, view) {
    const behind = background(element, view);
    const a = luminance(over(channels(view.getComputedStyle(element).color), behind)), b = luminance(behind);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function check(frame, say) {
    const page = frame.contentDocument, view = frame.contentWindow;
    let worst = 99, texts = 0;
    for (const d of page.querySelectorAll('details'))
        d.open = true;
    if (page.documentElement.scrollWidth > frame.clientWidth)
        say(`WIDE ${page.documentElement.scrollWidth} in ${frame.clientWidth}`);
    for (const e of page.querySelectorAll('main *')) {
        if (e.closest('svg') || ![...e.childNodes].some(x => x.nodeType === 3 && x.data.trim()))
            continue;
        const c = contrast(e, view);
        worst = Math.min(worst, c);
        texts++;
        if (c < 4.5)
            say(`LOW ${c.toFixed(2)} ${e.tagName} ${e.className} in ${e.parentElement.className}: ${e.textContent.slice(0, 40)}`);
    }
    say(`SEEN ${texts} texts, contrast ${worst.toFixed(2)}`);
}

onload = () => {
    const lines = [], say = line => lines.length < 40 && lines.push(line);
    for (const frame of document.querySelectorAll('iframe'))
        check(frame, say);
    document.body.textContent = 'RESULT\n' + lines.join('\n') + '\nDONE';
};
