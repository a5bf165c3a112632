// A double of the existing front end's login: it makes the same calls in the same
// order, and reads each answer as the front end does, mistakes included. It knows
// nothing of how it is tested; what plays it is in play.js.
'use strict';

// The order is that of the page's indicators.
const SERVICES = [
  'jwt_token_adapter', 'session_validation_normalizer', 'fallback_session_provider',
  'websocket_auth_gateway', 'service_boundary_coordinator',
];
// Every other word, an object and a missing key are grey and count as no fault.
const COLOURS = { healthy: 'green', degraded: 'orange', circuit_open: 'red', error: 'grey' };
const IS_DEGRADED = ['degraded', 'circuit_open', 'error'];

const CACHE_MS = 10 * 60_000;
const CALLS_PER_PAGE = 5;

// The page's clock; tests put it forward instead of waiting. Aborts are real time.
const clock = {
  ahead: 0,
  now() { return Date.now() + this.ahead; },
};

// Stops calls after `limit` failures in a row, for longer each time.
class Breaker {
  constructor(limit, first, longest) {
    Object.assign(this, { limit, first, longest, failures: 0, pause: 0, until: 0 });
  }

  get open() { return clock.now() < this.until; }

  good() { Object.assign(this, { failures: 0, pause: 0, until: 0 }); }

  bad() {
    this.failures += 1;
    if (this.failures < this.limit) return;
    this.pause = this.pause ? Math.min(this.pause * 2, this.longest) : this.first;
    this.until = clock.now() + this.pause;
  }
}

// One endpoint as the fetch layer sees it.
class Endpoint {
  constructor(path, { abortAfter, apart = 0, init = {} }) {
    Object.assign(this, { path, abortAfter, apart, init, calls: 0, last: null });
    this.breakers = [new Breaker(3, 30_000, 480_000), new Breaker(5, 1_000, 64_000)];
  }

  // Throws if the call is not made, not answered, or too late.
  async call() {
    if (this.last && clock.now() - this.last.at < this.apart) return this.last.answer;
    if (this.breakers.some((breaker) => breaker.open)) throw new Error('circuit breaker');
    if (this.calls >= CALLS_PER_PAGE) throw new Error('call limit');
    this.calls += 1;
    try {
      const answer = await this.fetch();
      this.breakers.forEach((breaker) => (answer.ok ? breaker.good() : breaker.bad()));
      this.last = { at: clock.now(), answer };
      return answer;
    } catch (error) {
      this.breakers.forEach((breaker) => breaker.bad());
      throw error;
    }
  }

  async fetch() {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), this.abortAfter);
    try {
      const response = await fetch(this.path, {
        credentials: 'include', signal: abort.signal, ...this.init,
      });
      const type = response.headers.get('content-type') || '';
      const json = response.status !== 204 && type.includes('application/json');
      const body = json ? await response.json().catch(() => null) : null;
      return { ok: response.ok, status: response.status, body };
    } finally {
      clearTimeout(timer);
    }
  }
}

// The claims of a stored token, unsigned; null if it is missing or cannot be read. A
// payload with `-` or `_` is no base64 to `atob`, and the token is thrown away.
function storedClaims() {
  const token = localStorage.getItem('auth_token');
  if (!token) return null;
  try {
    return JSON.parse(atob(token.split('.')[1]));
  } catch {
    localStorage.removeItem('auth_token');
    return null;
  }
}

// The page's state, as `AuthContext` and `PrivateRoute` have it.
class FrontEnd {
  constructor() {
    this.state = {
      screen: 'loading', authenticated: false, user: null, degraded: false,
      services: Object.fromEntries(SERVICES.map((name) => [name, 'unknown'])),
      by: null, error: null,
    };
    this.healthAt = null;
    const json = { 'Content-Type': 'application/json' };
    this.endpoints = {
      health: new Endpoint('/api/v1/health/integration', {
        abortAfter: 8_000, apart: 30_000, init: { headers: { 'Cache-Control': 'no-cache' } },
      }),
      validate: new Endpoint('/api/v1/session/validate', {
        abortAfter: 8_000,
        apart: 5_000,
        init: {
          method: 'GET',
          headers: { ...json, 'Cache-Control': 'no-cache', 'X-Integration-Layer': 'true' },
        },
      }),
      main: new Endpoint('/api/v1/auth/validate', { abortAfter: 5_000 }),
      login: new Endpoint('/auth/login', {
        abortAfter: 10_000, init: { method: 'POST', headers: json, body: '{}' },
      }),
      logout: new Endpoint('/api/v1/auth/logout', { abortAfter: 10_000, init: { method: 'POST' } }),
    };
  }

  // What a page load does. Within ten minutes of a success it makes no call.
  async load() {
    const kept = JSON.parse(localStorage.getItem('auth_state') || 'null');
    if (kept && clock.now() - kept.at < CACHE_MS) {
      this.logIn(kept.user, 'cache', kept.degraded);
      return;
    }
    await this.health();
    await this.validate();
  }

  // Never throws: without an answer the page goes on, degraded.
  async health() {
    if (this.healthAt !== null && clock.now() - this.healthAt < 60_000) return;
    this.healthAt = clock.now();
    try {
      const { ok, body } = await this.endpoints.health.call();
      if (!ok || body === null) throw new Error('no health');
      const words = SERVICES.map((name) => body[name]);
      SERVICES.forEach((name, at) => {
        const known = typeof words[at] === 'string' && Object.hasOwn(COLOURS, words[at]);
        this.state.services[name] = known ? words[at] : 'unknown';
      });
      this.state.degraded = words.some((word) => IS_DEGRADED.includes(word));
    } catch {
      this.state.degraded = true;
    }
  }

  async validate() {
    let answer;
    try {
      answer = await this.endpoints.validate.call();
    } catch (error) {
      this.logOut(error.name === 'AbortError' ? 'aborted' : error.message);
      return;
    }
    if (!answer.ok) {
      this.logOut(`status ${answer.status}`);
      return;
    }
    const body = answer.body || { valid: false };
    // Any non-empty string is true here.
    if (body.valid) {
      const user = { id: body.user_id, email: body.email, role: body.role };
      this.logIn(user, 'session', this.state.degraded);
      this.keep();
    } else {
      await this.secondWays();
    }
  }

  // `valid:false`: first the stored token, whose signature nobody checks, then the main API.
  async secondWays() {
    const claims = storedClaims();
    const needed = ['sub', 'email', 'id', 'role', 'session_id'];
    if (claims && needed.every((name) => claims[name]) && claims.exp * 1_000 > clock.now()) {
      this.logIn(null, 'stored token', this.state.degraded);
      return;
    }
    try {
      const { ok, status, body } = await this.endpoints.main.call();
      if (ok && body) this.logIn({ id: body.id, email: body.email, role: body.role }, 'main API');
      else this.logOut(`main API: status ${status}`);
    } catch (error) {
      this.logOut(`main API: ${error.message}`);
    }
  }

  // Health is awaited again before a login; what follows takes a full reload.
  async login() {
    await this.health();
    await this.endpoints.login.call();
  }

  async logout() {
    localStorage.removeItem('auth_state');
    localStorage.removeItem('auth_token');
    const { status } = await this.endpoints.logout.call();
    this.logOut(`logout: status ${status}`);
  }

  keep() {
    const { user, degraded } = this.state;
    localStorage.setItem('auth_state', JSON.stringify({ at: clock.now(), user, degraded }));
  }

  logIn(user, by, degraded = this.state.degraded) {
    Object.assign(this.state, {
      screen: 'home', authenticated: true, user, by, degraded, error: null,
    });
    this.show();
  }

  logOut(error) {
    Object.assign(this.state, {
      screen: 'login', authenticated: false, user: null, by: null, error,
    });
    localStorage.removeItem('auth_state');
    this.show();
  }

  // What a user sees: the screen, the degraded flag and five lights.
  show() {
    const { screen, degraded, user, services } = this.state;
    const lights = SERVICES.map((name) => {
      const light = document.createElement('li');
      light.textContent = name;
      light.className = COLOURS[services[name]] || 'grey';
      return light;
    });
    document.getElementById('screen').textContent = screen;
    document.getElementById('user').textContent = user?.email ?? '';
    document.getElementById('degraded').hidden = !degraded;
    document.getElementById('lights').replaceChildren(...lights);
  }
}
