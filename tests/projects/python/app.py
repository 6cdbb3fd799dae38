import os

from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello():
    return f"flask says hello to {os.getuid()}, with {sorted(os.listdir('.'))}\n"
