// A worker: lays out points of which the nearest neighbours are known.
import { createUMAPFromKNN } from "../static/vendor/umap.js";

const EPOCHS = 200;

self.addEventListener("message", async (event) => {
  const { points, nearest, distances } = event.data;
  try {
    const umap = await createUMAPFromKNN(points, 2, nearest, distances, {
      seed: 7,
      nEpochs: EPOCHS,
      progress: (done) => self.postMessage({ done }),
    });
    await umap.run();
    self.postMessage({ places: new Float32Array(umap.embedding) });
    umap.destroy();
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
});
