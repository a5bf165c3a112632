// Plays one act on the front end's double and reports what came of it. The act lies
// in the tab's storage, where stage.html has put it.
'use strict';

const shown = (id) => !document.getElementById(id).hidden;

// Waits until something holds of the chat page, or its socket has ended.
function until(chat, holds) {
  return new Promise((resolve) => {
    const look = () => { if (holds() || chat.closed) resolve(); };
    chat.watchers.push(look);
    look();
  });
}

async function play() {
  const act = JSON.parse(sessionStorage.getItem('act'));
  const page = new FrontEnd();
  const chat = new ChatPage();
  let asked = 0;
  const steps = {
    load: () => page.load(),
    health: () => page.health(),
    validate: () => page.validate(),
    login: () => page.login(),
    logout: () => page.logout(),
    ahead: (seconds) => { clock.ahead += seconds * 1_000; },
    // A plain call of the page's own scripts, e.g. one that the front end does not make.
    fetch: (url, init) => fetch(url, init).then((answer) => answer.status, String),
    // Until the socket is ready, or refused.
    open: (url) => {
      chat.open(url);
      return until(chat, () => chat.came.includes('ready_confirmed'));
    },
    // Until all is answered, or the socket has ended; the waiting sign before and after.
    chat: async (text, mode) => {
      steps.say(text, mode);
      const before = shown('waiting');
      await until(chat, () => chat.answers.length >= asked);
      return [before, shown('waiting'), chat.answers.at(-1) ?? null];
    },
    say: (text, mode) => {
      asked += 1;
      chat.say(text, mode);
    },
    large: (letters) => chat.socket.send('x'.repeat(letters)),
    close: () => chat.socket.close(1000),
    closed: () => until(chat, () => false),
    // Until the test lets the page go on.
    hold: () => fetch('/stage/hold').then((answer) => answer.status),
  };
  const results = [];
  for (const [name, ...values] of act.steps) {
    results.push((await steps[name](...values)) ?? null);
  }
  page.show();
  const seen = {
    screen: document.getElementById('screen').textContent,
    user: document.getElementById('user').textContent,
    degraded: shown('degraded'),
    lights: [...document.getElementById('lights').children].map((light) => light.className),
  };
  const breakers = Object.entries(page.endpoints)
    .filter(([, endpoint]) => endpoint.breakers.some((breaker) => breaker.failures > 0))
    .map(([name]) => name);
  return {
    act: act.number,
    state: page.state,
    shown: seen,
    chat: {
      opened: chat.opened, session: chat.session, came: chat.came, closed: chat.closed,
      notice: document.getElementById('notice').textContent,
      waiting: shown('waiting'),
      answers: [...document.getElementById('answers').children].map((line) => line.textContent),
    },
    results,
    failing: breakers,
    stored_token: localStorage.getItem('auth_token'),
    kept: localStorage.getItem('auth_state') !== null,
    script_cookies: document.cookie,
  };
}

play()
  .catch((error) => ({ fault: String(error.stack) }))
  .then((report) => fetch('/stage/report', { method: 'POST', body: JSON.stringify(report) }))
  .then(() => location.replace('/stage'));
