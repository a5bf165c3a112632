// Plays one act on the front end's double and reports what came of it. The act lies
// in the tab's storage, where stage.html has put it.
'use strict';

async function play() {
  const act = JSON.parse(sessionStorage.getItem('act'));
  const page = new FrontEnd();
  const steps = {
    load: () => page.load(),
    health: () => page.health(),
    validate: () => page.validate(),
    login: () => page.login(),
    logout: () => page.logout(),
    ahead: (seconds) => { clock.ahead += seconds * 1_000; },
    // A plain call of the page's own scripts, e.g. one that the front end does not make.
    fetch: (url, init) => fetch(url, init).then((answer) => answer.status, String),
  };
  const results = [];
  for (const [name, ...values] of act.steps) {
    results.push((await steps[name](...values)) ?? null);
  }
  page.show();
  const shown = {
    screen: document.getElementById('screen').textContent,
    user: document.getElementById('user').textContent,
    degraded: !document.getElementById('degraded').hidden,
    lights: [...document.getElementById('lights').children].map((light) => light.className),
  };
  const breakers = Object.entries(page.endpoints)
    .filter(([, endpoint]) => endpoint.breakers.some((breaker) => breaker.failures > 0))
    .map(([name]) => name);
  return {
    act: act.number,
    state: page.state,
    shown,
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
