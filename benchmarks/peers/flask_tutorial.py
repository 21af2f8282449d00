"""The service that a tutorial writes: Flask's own server in front of sentence-transformers' encode."""

import sys

from flask import Flask, jsonify, request
from sentence_transformers import SentenceTransformer

app = Flask(__name__)
model = SentenceTransformer(sys.argv[1], device="cpu")


@app.post("/generate")
def generate():
    return jsonify({"embeddings": model.encode(request.get_json()["texts"]).tolist()})


@app.get("/health")
def health():
    return jsonify({"status": "ready"})


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[3]))
