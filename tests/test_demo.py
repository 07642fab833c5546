"""The page to draw on: its answers, its server against hostile requests, its use in a headless Chromium."""

import asyncio
import base64
import io
import itertools
import json
import os
import queue
import re
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import FACTS, claiming_png, optional, refusal
from PIL import Image

import demo
from data import load
from demo import encode
from inference import server
from models import create, save_model


@pytest.fixture(scope="module")
def page():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "MIL", demo.MIL.replace("--train-bags 400", "--train-bags 200"))
        return demo.Page(demo.make_parser().parse_args([]))


@pytest.fixture(scope="module")
def own_page(page, tmp_path_factory):
    """The page of a model of letters, dark on light."""
    path = tmp_path_factory.mktemp("letters") / "best.pt"
    facts = {**FACTS, "dataset": "letters", "inverted": True, "classes": ["A", "B", "C"]}
    save_model(path, create("linear", 3), "linear", facts, num_classes=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo.train_mil, "train", lambda *args: [page.mil])
        return demo.Page(demo.make_parser().parse_args(["--model", str(path)]))


def start(page):
    """Serve a page in a thread; return the port."""
    ports = queue.Queue()
    threading.Thread(target=lambda: asyncio.run(demo.serve_page(page, 0, ports.put)), daemon=True).start()
    return ports.get(timeout=10)


@pytest.fixture(scope="module")
def port(page):
    return start(page)


def of_class(value):
    """A test digit of a class, as the page sends it."""
    digits = load("mnist-5k", "")[1]
    return encode(digits.images[int((digits.labels == value).int().argmax()), 0].numpy())


def request(path="/read", body=b"{}", line="POST {} HTTP/1.1", **headers):
    """The bytes of a request of the page, with some headers replaced, or left out for None."""
    sent = {"Host": "127.0.0.1:7860", "Content-Type": "application/json", "Content-Length": len(body)}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in sent.items() if value is not None]
    return "\r\n".join([line.format(path), *lines, "", ""]).encode("latin-1") + body


def exchange(port, sent):
    """Send bytes; return status, head and content of the reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        head, _, content = b"".join(iter(lambda: connection.recv(1 << 16), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), content.decode()


def ask(port, question, **values):
    return json.loads(exchange(port, request(f"/{question}", json.dumps(values).encode()))[2])


def test_a_digit_is_read_by_every_model(port):
    found = ask(port, "read", picture=of_class(3))
    assert set(found["models"]) == {"CNN", "k-NN on SimCLR features"}
    for (answer,) in found["models"].values():
        assert answer["label"] == "3"
        assert len(answer["probabilities"]) == 10
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert [other["label"] for other in found["nearest"][0]].count("3") > 4
    assert ask(port, "see", picture=found["seen"][0])["seen"] == found["seen"][0]


def test_a_bag_with_the_target_is_positive_and_the_attention_is_on_it(port):
    others = [of_class(value) for value in (0, 1, 2, 3, 6)]
    without = ask(port, "bag", pictures=others)
    with_nine = ask(port, "bag", pictures=[*others, of_class(9)])
    assert without["probability"] < 0.5 < with_nine["probability"]
    assert sum(with_nine["attention"]) == pytest.approx(1, abs=1e-4)
    assert np.argmax(with_nine["attention"]) == len(others)


def test_what_can_not_be_answered_is_said(port):
    blank, dots, snow = (np.zeros(size, np.uint8) for size in ((28, 28), (40, 1200), (300, 300)))
    dots[10:30, ::20] = snow[::6, ::6] = 255
    for picture, reason in (blank, "blank"), (dots, "draw fewer"), (snow, "too many"):
        assert reason in ask(port, "read", picture=encode(picture))["error"]
    assert "not a picture" in ask(port, "read", picture="data:image/png;base64,AAAA")["error"]
    assert "at least two symbols" in ask(port, "one_shot", examples={}, picture=encode(blank))["error"]


def test_a_taken_port_is_one_line(page, port, monkeypatch, capsys):
    monkeypatch.setattr(demo, "Page", lambda args: page)
    assert "choose another --port" in refusal(demo.main, ["--port", str(port)], capsys)


# --- Hostile requests ---

PATHS = ("/read", "/see", "/random", "/bag", "/one_shot")
HOSTS = "|evil.example|127.0.0.1.evil.example|localhost.evil.example|localhost@evil.example|127.0.0.2|0.0.0.0"
HOSTS += "|127.1|localhost:x|localhost, x|localhost\r\nHost: localhost|[::1|l\xf6calhost|localhost."
ORIGINS = "null|https://127.0.0.1:7860|http://127.0.0.1:1|http://127.0.0.1:7860.evil.example"
KINDS = "|text/plain|application/x-www-form-urlencoded|multipart/form-data|application/jsonx|text/json"
LENGTHS = f"|abc|1.5|0x10|-1|+2|2,2|2;2|1_0|1e3|\xb2|NaN|2\r\nContent-Length: 2|{'9' * 5000}"
LINES = "GET /|||\0\0|get / HTTP/1.1|GET / HTTP/9.9|GET / FTP/1.1|GET http://x/ HTTP/1.1|POST /read  HTTP/1.1"
BODIES = f"""|[]|null|1|"x"|{{|{"[" * 5000}|{'{"a":' * 5000}|{{"pictures": []}}|{{"picture": 1}}|\xff|NaN"""
NOWHERE = "|answer|__init__|read/|/read|%72ead"
COUNTS = f"""NaN|1e999|-1|0|25|1.5|true|null|"1"|{"9" * 5000}|1, "classes": [[]]|1, "classes": {{}}"""
SIZES = ((60_000, 60_000), (20_000, 20_000), (1, 2**31 - 1), (0, 0), (2001, 2000))


def as_url(content, end=None):
    return "data:image/png;base64," + base64.b64encode(content[:end]).decode()


def bad_pictures():
    """Pictures that are blank, cut off, or claim to be large."""
    for mode in ("L", "P", "I;16", "RGBA"):
        Image.new(mode, (3, 2)).save(content := io.BytesIO(), "PNG")
        yield from (as_url(content.getvalue(), end) for end in (0, 20, 40, 60, None))
    yield from (as_url(claiming_png(*size)) for size in SIZES)


def hostile():
    """Every kind of hostile request: its name, the status of the replies, the requests."""

    def each(header, values):
        return [request(path, **{header: value}) for path in PATHS for value in values.split("|")]

    def asked(path, **values):
        return request(path, json.dumps(values).encode())

    bodies = [*BODIES.split("|"), *(f'{{"classes": ["1"], "count": {count}}}' for count in COUNTS.split("|"))]
    yield "host", 403, each("Host", HOSTS)
    yield "host of GET", 403, [request("/", b"", "GET {} HTTP/1.1", Host=host) for host in HOSTS.split("|")]
    yield "origin", 403, each("Origin", ORIGINS)
    yield "site", 403, each("Sec_Fetch_Site", "cross-site|same-site|none")
    yield "type", 415, each("Content_Type", KINDS)
    yield "length", 411, [*each("Content_Length", LENGTHS), request(Content_Length=None)]
    yield "coding", 411, each("Transfer_Encoding", "chunked|identity")
    yield "large", 413, each("Content_Length", "2000001|99999999999999999")
    yield "line", 400, [request(line=line) for line in LINES.split("|")]
    yield "head", 431, [request(X="x" * 100_000), request(X="\r\nX: ".join(["x"] * 200))]
    yield "method", 405, [request(line=f"{name} / HTTP/1.1") for name in ("PUT", "HEAD", "OPTIONS", "TRACE")]
    yield "path", 404, [request(f"/{name}") for name in NOWHERE.split("|")]
    yield "body", 400, [request(path, body.encode("latin-1")) for path in PATHS for body in bodies]
    yield "pictures", 200, [asked("/bag", pictures=["x"] * n) for n in (25, 3000, 200_000)]
    yield "picture", 200, [asked(path, picture=p) for path in ("/read", "/see") for p in bad_pictures()]


@pytest.mark.parametrize("kind", list(hostile()), ids=lambda kind: kind[0])
def test_hostile_requests_are_refused(port, kind, capfd):
    for sent in kind[2]:
        status, head, content = exchange(port, sent)
        assert (status, list(json.loads(content))) == (kind[1], ["error"]), sent[:200]
        assert "Content-Type: application/json\r\n" in head
    assert capfd.readouterr() == ("", "")


def test_the_page_is_served_with_headers_that_protect_it(port):
    hosts = "127.0.0.1:80", "localhost", "[::1]:80", "LOCALHOST:1"
    for host, path in itertools.product(hosts, ("/", "/?x=1")):
        status, head, content = exchange(port, request(path, b"", "GET {} HTTP/1.1", Host=host))
        assert (status, "http" in content) == (200, False)
        assert not re.search("(?i)server:|python|unsafe", head)
        (nonce,) = re.findall("script-src 'nonce-([^']{20,})'", head)
        assert content.count(f'nonce="{nonce}"') == len(re.findall("<script|<style", content)) == 3
        for header in ("X-Frame-Options: DENY", "X-Content-Type-Options: nosniff", "frame-ancestors 'none'"):
            assert header in head
        own = {"Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin", "Host": host}
        assert exchange(port, request("/random", b'{"count": 1, "classes": ["1"]}', **own))[0] == 200


def test_idle_connections_end_and_many_are_refused(page, monkeypatch, capfd):
    monkeypatch.setattr(server, "DEADLINE", 1)
    port = start(page)
    idle = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(100)]
    idle[0].sendall(request(Content_Length=100))  # and never its body
    replies = [b"".join(iter(lambda c=c: c.recv(1000), b"")) for c in idle]
    assert [b" 503 " in reply for reply in replies] == [i >= server.CONNECTIONS for i in range(100)]
    monkeypatch.undo()
    with socket.create_connection(("127.0.0.1", port)) as closed:  # before the answer
        closed.sendall(request(body=json.dumps({"picture": of_class(3)}).encode()))
    assert ask(port, "see", picture=of_class(3))["seen"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak of memory to reset")
def test_the_largest_requests_need_little_memory(port):
    def peak():
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1000  # MB

    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    Image.new("RGBA", (2000, 2000), (255, 255, 255, 0)).save(content := io.BytesIO(), "PNG")
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(server.CONNECTIONS - 2)]
    for connection in stalled:
        connection.sendall(request(Content_Length=2_000_000) + bytes(1_900_000))
    for body in ("[" * 1_999_000, "[" + "{}," * 600_000 + "0]", '{"pictures": [' + '"",' * 450_000 + '""]}'):
        assert "error" in exchange(port, request("/bag", body.encode()))[2]
    assert "blank" in ask(port, "bag", pictures=[as_url(content.getvalue())] * 24)["error"]
    for connection in stalled:
        connection.close()
    assert peak() - before < 400


# --- In a browser ---

VIEWS = list(itertools.product((390, 1280), ("light", "dark")))
two_views = pytest.mark.parametrize("view", VIEWS[1:3], indirect=True)  # the drawn digits are tested in all
# Strokes in shares of the pad, from its upper left corner.
SEVEN = [[(0.3, 0.25), (0.7, 0.25), (0.62, 0.45), (0.5, 0.8)]]
SEVENTY_ONE = [[(0.1, 0.25), (0.4, 0.25), (0.3, 0.8)], [(0.75, 0.2), (0.75, 0.8)]]
ONE = [[(0.5, 0.2), (0.5, 0.8)]]
CROSS = [[(0.25, 0.25), (0.75, 0.75)], [(0.75, 0.25), (0.25, 0.75)]]
DOT = [[(0.5, 0.5)]]
PASTE = """fetch(arguments[0]).then(reply => reply.blob()).then(blob => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([blob], "6.png", {type: "image/png"}));
    document.dispatchEvent(new ClipboardEvent("paste", {clipboardData}));
})"""


@pytest.fixture(scope="module")
def browser():
    optional("selenium")
    from selenium import webdriver

    driver_path, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not (driver_path and chromium):
        message = "no chromium and chromedriver: apt-get install chromium chromium-driver"
        pytest.fail(message) if os.environ.get("REQUIRE_OPTIONAL") else pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_path))
    yield driver
    assert all("INTERNET_DISCONNECTED" in entry["message"] for entry in driver.get_log("browser"))
    driver.quit()


@pytest.fixture(params=VIEWS)
def view(browser, port, request):
    """The browser with the page, at a width and in a colour scheme; it never scrolls sideways."""
    (width, scheme), size = request.param, {"height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, **size})
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(f"http://127.0.0.1:{port}")
    yield browser
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def press(browser, *texts):
    """Click on buttons with these texts, on the open tab."""
    for text in texts:
        browser.find_element("xpath", f"//button[.='{text}'][not(ancestor::*[@hidden])]").click()


def stroke(browser, pad, strokes):
    """Draw strokes on a pad with the mouse."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = browser.find_element("id", f"{pad}pad-canvas")
    side, chain = canvas.size["width"], ActionChains(browser, duration=10)
    for points in strokes:
        places = [(round((x - 0.5) * side), round((y - 0.5) * side)) for x, y in points]
        chain.move_to_element_with_offset(canvas, *places[0]).click_and_hold()
        for place in places[1:]:
            chain.move_to_element_with_offset(canvas, *place)
        chain.release()
    chain.perform()


def wait_for(browser, element, condition):
    """Wait until the text of an element is this, or meets a condition."""
    from selenium.webdriver.support.ui import WebDriverWait

    holds = condition if callable(condition) else condition.__eq__
    wait = WebDriverWait(browser, 20, poll_frequency=0.05)
    wait.until(lambda _: holds(browser.find_element("id", element).text), f"{element}: {condition}")


def test_drawn_digits_are_read(view):
    stroke(view, "read", SEVEN)
    wait_for(view, "answer", "7")
    assert "answered in" in view.find_element("id", "time").text
    assert len(find(view, "#digits img")) == 9
    rows = find(view, "#digits tbody tr")
    assert [row.text.split()[0] for row in rows] == list("0123456789")
    assert {row.size["height"] for row in rows} == {21}  # no percentage takes two lines
    assert len({tab.rect["y"] for tab in find(view, "[role=tab]")}) == 1
    assert view.find_element("id", "answer").rect["y"] < 600  # above the fold
    dark = view.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    for element in find(view, "body, .card"):
        colour = element.value_of_css_property("background-color")
        assert (int(re.search(r"\d+", colour)[0]) < 128) == dark
    press(view, "Clear")
    wait_for(view, "answer", "")
    stroke(view, "read", SEVENTY_ONE)
    wait_for(view, "answer", "71")
    assert view.execute_script("return document.documentElement.scrollHeight") < 1.5 * 844
    press(view, "Undo", "Undo")
    wait_for(view, "time", lambda text: text.startswith("Draw one digit"))
    stroke(view, "read", DOT)
    wait_for(view, "answer", lambda text: len(text) == 1)


@two_views
def test_the_keyboard_reaches_tabs_and_pads(view):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    # Undo while a stroke is drawn logs no error, see `browser`.
    pen = ActionChains(view).click_and_hold(view.find_element("id", "readpad-canvas"))
    pen.key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).move_by_offset(9, 9).release().perform()

    view.execute_script("document.querySelector('[role=tab]').focus()")
    for key, tab in ((Keys.ARROW_RIGHT, "bag"), (Keys.END, "one"), (Keys.ARROW_RIGHT, "read")):
        view.switch_to.active_element.send_keys(key)
        assert view.switch_to.active_element.get_attribute("aria-controls") == tab
        assert [panel.get_attribute("id") for panel in find(view, "[role=tabpanel]:not([hidden])")] == [tab]
        assert [chosen.get_attribute("id") for chosen in find(view, "[aria-selected=true]")] == [f"tab-{tab}"]
    for _ in range(7):  # Undo, Clear, Upload, and samples of 0 to 3
        view.switch_to.active_element.send_keys(Keys.TAB)
    view.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(view, "answer", "3")
    view.switch_to.active_element.send_keys(Keys.CONTROL, "z")
    wait_for(view, "answer", "")


@two_views
def test_pictures_are_uploaded_and_pasted(view, tmp_path):
    demo.decode(of_class(2)).resize((900, 1500)).save(tmp_path / "2.png")
    (tmp_path / "x.png").write_text("no picture")
    upload = view.find_element("css selector", "#readpad input")
    upload.send_keys(str(tmp_path / "2.png"))
    wait_for(view, "answer", "2")
    upload.send_keys(str(tmp_path / "x.png"))
    wait_for(view, "note", "This browser can't read that file as a picture.")
    view.execute_script(PASTE, of_class(6))
    wait_for(view, "answer", "6")


@two_views
def test_a_bag_is_composed_and_judged(view):
    torch.manual_seed(5)  # of the random digits
    take_out = "document.querySelector('#bagdigits button:{}-child').click()"
    press(view, "Bag of digits")
    wait_for(view, "baganswer", "No")
    press(view, "Add drawing")
    wait_for(view, "bagnote", "Draw something first.")
    press(view, "9")
    wait_for(view, "bagnote", "")
    press(view, "Add drawing")
    wait_for(view, "baganswer", "Yes")
    assert "that at least one is a 9" in view.find_element("id", "bagprobability").text
    assert len(find(view, "#bagdigits button")) == 10
    view.execute_script(take_out.format("last"))
    wait_for(view, "baganswer", "No")
    press(view, "Empty", "5 random")
    wait_for(view, "bagnote", lambda text: "with 5 it guesses" in text)
    view.execute_script(take_out.format("first"))
    wait_for(view, "bagnote", lambda text: "with 4 it guesses" in text)


@two_views
def test_own_symbols_are_recognised_from_one_example(view):
    press(view, "Own symbols", "Learn it")
    wait_for(view, "onenote", "Draw something first.")
    for name, strokes in (("cross", CROSS), ("dot", DOT), ("bar", ONE)):
        stroke(view, "one", strokes)
        view.find_element("id", "symbol").send_keys(f"{name}\n")
        wait_for(view, "examples", lambda text, name=name: name in text)
    find(view, "[aria-label='Forget dot']")[0].click()
    stroke(view, "one", CROSS)
    press(view, "Which one is this?")
    wait_for(view, "oneanswer", "cross")
    assert "dot" not in view.find_element("id", "oneshares").text
    press(view, "Forget all")
    wait_for(view, "examples", "")


@two_views
def test_every_tab_says_that_the_server_has_stopped(view):
    view.set_network_conditions(offline=True, latency=0, throughput=-1)
    for tab, keys, note in (("read", (), ""), ("bag", ["Add drawing"], "bag"), ("one", ["Learn it"], "one")):
        view.find_element("id", f"tab-{tab}").click()
        press(view, "Clear")
        stroke(view, tab, SEVEN)
        press(view, *keys)
        wait_for(view, f"{note}note", lambda text: "has demo.py stopped?" in text)
    view.delete_network_conditions()


@two_views
def test_a_model_of_other_classes_has_rows_of_its_own(view, own_page):
    view.get(f"http://127.0.0.1:{start(own_page)}")
    stroke(view, "read", SEVEN)
    wait_for(view, "answer", lambda text: text in ("A", "B", "C"))
    rows = find(view, "#digits tbody tr")
    assert [row.text.split()[0] for row in rows] == ["A", "B", "C"]
    assert all("NaN" not in row.text for row in rows)
    assert len(find(view, "#digits img")) == 1  # the drawing; no digits beside it
    assert "knows A, B, C" in view.find_element("id", "knows").text
