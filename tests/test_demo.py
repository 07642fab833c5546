"""The page to draw on: its answers, and strokes drawn with the mouse in a headless Chromium."""

import json
import os
import shutil
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from helpers import optional

import demo
from data import load
from demo import encode


@pytest.fixture(scope="module")
def page():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "MIL", demo.MIL.replace("--train-bags 400", "--train-bags 200"))
        return demo.Page(demo.make_parser().parse_args([]))


@pytest.fixture(scope="module")
def address(page):
    """The address of a running server."""
    server = demo.make_server(page, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def of_class(value):
    """A test digit of a class, as the page sends it."""
    digits = load("mnist-5k", "")[1]
    return encode(digits.images[int((digits.labels == value).int().argmax()), 0].numpy())


def ask(address, question, **request):
    with urllib.request.urlopen(f"{address}/{question}", json.dumps(request).encode()) as reply:
        return json.loads(reply.read())


def test_a_digit_is_read_by_every_model(address):
    (digit,) = ask(address, "read", picture=of_class(3))["digits"]
    assert set(digit["models"]) == {"CNN", "k-NN on SimCLR features"}
    for model in digit["models"].values():
        assert model["label"] == "3"
        assert len(model["probabilities"]) == 10
        assert sum(model["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert [other["label"] for other in digit["nearest"]].count("3") > 4


def test_a_bag_with_the_target_is_positive_and_the_attention_is_on_it(address):
    others = [of_class(value) for value in (0, 1, 2, 3, 6)]
    without = ask(address, "bag", pictures=others)
    with_nine = ask(address, "bag", pictures=[*others, of_class(9)])
    assert without["probability"] < 0.5 < with_nine["probability"]
    assert sum(with_nine["attention"]) == pytest.approx(1, abs=1e-4)
    assert np.argmax(with_nine["attention"]) == len(others)


def test_bad_requests_are_answered_with_an_error(address):
    blank = encode(np.zeros((28, 28), np.uint8))
    assert "blank" in ask(address, "read", picture=blank)["error"]
    assert "not a picture" in ask(address, "read", picture="data:image/png;base64,AAAA")["error"]
    assert "at least two classes" in ask(address, "one_shot", examples={}, picture=blank)["error"]
    for question, code in (("read", 400), ("nothing", 404), ("__init__", 404)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(address, question)
        assert caught.value.code == code


def test_the_server_answers_only_this_machine_and_loads_nothing_from_elsewhere(page, address):
    server = demo.make_server(page, 0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()
    with urllib.request.urlopen(address) as reply:
        content = reply.read().decode()
    assert "Content-Security-Policy\" content=\"default-src 'self'" in content
    assert "http" not in content.replace("http-equiv", "")


def test_a_taken_port_is_one_line(page, address, monkeypatch, capsys):
    monkeypatch.setattr(demo, "Page", lambda args: page)
    with pytest.raises(SystemExit) as stop:
        demo.main(["--port", address.rpartition(":")[2]])
    assert stop.value.code == 2
    assert "choose another --port" in capsys.readouterr().err


# --- In a browser ---


@pytest.fixture(scope="module")
def browser(address):
    optional("selenium")
    from selenium import webdriver

    driver_path, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not (driver_path and chromium):
        message = "no chromium and chromedriver: apt-get install chromium chromium-driver"
        pytest.fail(message) if os.environ.get("REQUIRE_OPTIONAL") else pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,900"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_path))
    driver.implicitly_wait(10)
    yield driver
    driver.quit()


# Strokes in shares of the pad, from its upper left corner.
SEVEN = [[(0.3, 0.25), (0.7, 0.25), (0.62, 0.45), (0.5, 0.8)]]
ONE = [[(0.5, 0.2), (0.5, 0.8)]]
CROSS = [[(0.25, 0.25), (0.75, 0.75)], [(0.75, 0.25), (0.25, 0.75)]]


def stroke(browser, pad, strokes):
    """Draw strokes on a canvas with the mouse."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = browser.find_element("id", pad)
    side = canvas.size["width"]
    for points in strokes:
        places = [(round((x - 0.5) * side), round((y - 0.5) * side)) for x, y in points]
        chain = ActionChains(browser, duration=20).move_to_element_with_offset(canvas, *places[0])
        chain.click_and_hold()
        for place in places[1:]:
            chain.move_to_element_with_offset(canvas, *place)
        chain.release().perform()


def wait_for(browser, element, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda _: condition(browser.find_element("id", element).text))


def test_digits_drawn_with_the_mouse_are_read(browser, address):
    browser.get(address)
    stroke(browser, "pad", SEVEN)
    wait_for(browser, "answer", lambda text: text == "7")
    assert len(browser.find_elements("css selector", "#digits img")) == 9
    assert "answered in" in browser.find_element("id", "time").text
    browser.find_element("id", "clear").click()
    wait_for(browser, "answer", lambda text: text == "")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_bag_is_composed_and_judged(browser):
    browser.find_element("css selector", "[data-tab=bag]").click()
    browser.find_element("id", "addrandom").click()
    wait_for(browser, "bagprobability", lambda text: text.endswith("%"))
    stroke(browser, "bagpad", SEVEN)
    browser.find_element("id", "add").click()
    wait_for(browser, "bagdigits", lambda text: len(text.split()) == 6)
    assert "that this bag holds a 9" in browser.find_element("id", "bagtext").text
    browser.find_element("css selector", "#bagdigits button").click()
    wait_for(browser, "bagdigits", lambda text: len(text.split()) == 5)


def test_own_symbols_are_recognised_from_one_example(browser):
    browser.find_element("css selector", "[data-tab=one]").click()
    for name, strokes in (("cross", CROSS), ("bar", ONE)):
        browser.find_element("id", "symbol").send_keys(name)
        stroke(browser, "onepad", strokes)
        browser.find_element("id", "learn").click()
    stroke(browser, "onepad", CROSS)
    browser.find_element("id", "ask").click()
    wait_for(browser, "oneanswer", lambda text: text == "cross")
