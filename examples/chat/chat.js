// Chats through the gateway's socket. The page's address ends in #token=...; what follows
// the # never leaves the browser with the page's request. `gateway` there names another
// gateway than the one on port 8028 of this machine.
'use strict';

const byId = (id) => document.getElementById(id);
const given = new URLSearchParams(location.hash.slice(1));

function state(text) { byId('state').textContent = text; }

function line(who, text) {
  const item = document.createElement('li');
  item.textContent = `${who}: ${text}`;
  byId('lines').append(item);
  item.scrollIntoView({ block: 'nearest' });
}

function usable(yes) {
  byId('text').disabled = byId('send').disabled = !yes;
  if (yes) byId('text').focus();
}

function connect(gateway, token) {
  const socket = new WebSocket(`${gateway}/ws/chat?token=${encodeURIComponent(token)}`);
  const send = (message) => socket.send(JSON.stringify(message));
  let session = null;

  const heard = {
    connection_confirmed(message) {
      session = message.session_id;
      send({ type: 'ready', session_id: session, user_id: message.user_id });
      state(`Connected as user ${message.user_id}`);
      usable(true);
    },
    message_received: () => state('Waiting for the answer'),
    chat_response(message) {
      line('Answer', message.content);
      state('Connected');
    },
    error(message) {
      line('Error', message.message);
      state('Connected');
    },
  };
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (Object.hasOwn(heard, message.type)) heard[message.type](message);
  };
  socket.onclose = ({ code, reason }) => {
    usable(false);
    state(`Closed (${code}${reason ? `: ${reason}` : ''}). Reload the page to connect again.`);
  };
  byId('form').onsubmit = (event) => {
    event.preventDefault();
    const message = byId('text').value.trim();
    if (!message || socket.readyState !== WebSocket.OPEN) return;
    line('You', message);
    send({ type: 'chat_message', message, session_id: session, mode: 'smart-router' });
    byId('form').reset();
  };
}

if (given.get('token')) {
  try {
    connect(given.get('gateway') ?? `ws://${location.hostname}:8028`, given.get('token'));
  } catch (error) {
    state(`Cannot connect: ${error.message}`);
  }
} else {
  state('There is no token: the address of this page must end in #token=...');
}
// Another token in the same tab.
window.onhashchange = () => location.reload();
