"""A plain script: no async, no files. Needs a broker and a worker, as `lmaas up` starts them."""

import lmaas

with lmaas.SyncClient() as client:
    print(client.classify("sentiment", "What a wonderful film!"))

    texts = ["Great fun.", "", "A waste of time."]
    for result in client.classify_many("sentiment", texts):
        print(result.id, result.label or result.error)
