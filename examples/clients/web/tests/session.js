// Owns what is asked of the session, in a browser: a guest draws cards over a connection that is
// cut again and again; each draw is done once, each answer comes once, in order.
async ({ kit, device }) => {
  const { Session, front, guest } = await import(kit);
  const wrong = [];
  const holds = (what, fine, seen) => fine || wrong.push(`${what}: ${JSON.stringify(seen)}`);
  const { accounts, gates } = await front();
  const { token, accountId } = await guest(accounts, device);
  const session = await Session.signIn({ token, gates, deviceId: device });
  holds("the account", session.user.account === accountId, session.user.account);

  const echoes = await Promise.all(
    [1, 2, 3].map((val) => session.request("msg.Echo.Req", { val, ct: val * 2 })),
  );
  holds("the echoes", JSON.stringify(echoes) === '[{"val":1,"ct":2},{"val":2,"ct":4},{"val":3,"ct":6}]', echoes);

  let [bags, opened, away] = [0, 0, 0];
  session.on("msg.GetItems.Res", () => (bags += 1));
  session.addEventListener("open", () => (opened += 1));
  session.addEventListener("away", () => (away += 1));
  // A network that swallows what is sent, before it breaks.
  const { send } = WebSocket.prototype;
  let swallowed = 0;
  const swallows = function () {
    swallowed += 1;
  };
  const order = [];
  const draws = [];
  for (let n = 0; n < 60; n++) {
    if (n % 12 === 2) WebSocket.prototype.send = swallows;
    if (n % 12 === 5) {
      WebSocket.prototype.send = send;
      session.cut();
    }
    const drawn = session.request("cards.Draw.Req", { count: 1 });
    draws.push(drawn.then(({ gold }) => order.push(gold)));
    draws.push(session.request("msg.Echo.Req", { val: n }).then(({ val }) => order.push(-val)));
    // Some are under way when it is cut, some are not sent yet, some wait to be answered.
    if (n % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 7 * (n % 4)));
    if (n % 12 === 11) await drawn;
  }
  await Promise.all(draws);
  const expected = [...Array(60).keys()].flatMap((n) => [99 - n, -n]);
  holds("in order, once each", JSON.stringify(order) === JSON.stringify(expected), order);
  holds("a push for each draw", bags === 60, bags);
  holds("some was swallowed", swallowed >= 5, swallowed);
  holds("it was cut and came back", session.resumes >= 5 && opened === away, [session.resumes, opened, away]);
  const { items } = await session.request("msg.GetItems.Req", { idx: 102 });
  const cards = items.reduce((sum, { num }) => sum + num, 0);
  holds("the cards", cards === 60, items);

  let code = 0;
  await session.request("cards.Draw.Req", { count: 99 }).catch((refused) => (code = refused.code));
  holds("too many cards are refused", code > 0, code);
  // More than may be under way at once waits its turn. A gate takes 200 at once, and 100 a second.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  const vals = [...Array(160).keys()];
  const many = await Promise.all(vals.map((val) => session.request("msg.Echo.Req", { val })));
  holds("160 at once", many.every(({ val }, n) => val === n), many.length);
  holds("a ping was answered", session.rttMs >= 0, session.rttMs);

  const over = new Promise((resolve) => session.addEventListener("over", (e) => resolve(e.detail)));
  const other = await Session.signIn({ token, gates, deviceId: device });
  holds("signed in elsewhere", (await over).code === 2005, String(session.over));
  let refused = null;
  await session.request("msg.Echo.Req", { val: 1 }).catch((error) => (refused = error));
  holds("nothing is asked of what is over", refused === session.over, String(refused));
  await other.logout();
  holds("logged out", other.over !== null, String(other.over));
  return wrong;
}
