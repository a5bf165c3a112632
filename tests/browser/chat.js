// A double of the existing front end's chat page: it opens the socket, reads what comes
// and shows what users see, mistakes included. It never opens a lost socket again.
'use strict';

class ChatPage {
  constructor() {
    Object.assign(this, {
      socket: null, opened: 0, session: null, waiting: false, notice: '', closed: null,
    });
    this.answers = [];
    this.came = [];
    this.watchers = [];
  }

  // With the stored token in the query if there is one; the browser adds its cookies.
  open(url = null) {
    const token = localStorage.getItem('auth_token');
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const own = `${scheme}://${location.host}/ws/chat`;
    const query = token === null ? '' : `?token=${encodeURIComponent(token)}`;
    this.opened += 1;
    this.socket = new WebSocket((url ?? own) + query);
    this.socket.onmessage = (event) => this.heard(event.data);
    this.socket.onclose = (event) => this.ended(event);
  }

  heard(text) {
    const message = JSON.parse(text);
    this.came.push(message.type);
    switch (message.type) {
      case 'connection_confirmed':
        this.session = message.session_id;
        this.send({
          type: 'ready', session_id: message.session_id, user_id: message.user_id,
          auth_method: 'jwt', integration_layer: true,
        });
        break;
      case 'chat_response':
        this.answers.push(message.content);
        this.waiting = false;
        break;
      case 'error':
        this.answers.push(`error: ${message.message}`);
        this.waiting = false;
        break;
      // All else is ignored.
      default:
    }
    this.show();
  }

  // Nothing but an answer ends the waiting sign, not even the end of the socket.
  say(message, mode) {
    this.waiting = true;
    this.send({ type: 'chat_message', message, session_id: String(Date.now()), mode });
    this.show();
  }

  send(message) { this.socket.send(JSON.stringify(message)); }

  ended({ code, reason, wasClean }) {
    this.closed = { code, reason, clean: wasClean };
    if (code !== 1000 && code !== 1001) this.notice = 'connection lost';
    this.show();
  }

  show() {
    document.getElementById('notice').textContent = this.notice;
    document.getElementById('waiting').hidden = !this.waiting;
    const lines = this.answers.map((answer) => {
      const line = document.createElement('li');
      line.textContent = answer;
      return line;
    });
    document.getElementById('answers').replaceChildren(...lines);
    this.watchers.forEach((watch) => watch());
  }
}
