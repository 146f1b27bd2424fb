"""What is told to NGL in its own language, where nglview has no word for it."""

__all__ = ["BEGIN", "LOADED", "MARK", "POINTS", "SCHEME"]

#: Makes a colour scheme under a name of our own; NGL would choose one.
SCHEME = """
var table = %(table)s;
var made = NGL.ColormakerRegistry.addScheme(function () {
    this.atomColor = function (atom) {
        var colour = table[atom.chainname + ":" + atom.resno + (atom.inscode || "")];
        return colour === undefined ? %(other)d : colour;
    };
});
NGL.ColormakerRegistry.add("%(name)s", NGL.ColormakerRegistry.userSchemes[made]);
"""

#: Tests and people with a console find the view in the list. A cell that is run out of sight gives
#: it no size yet, and NGL would draw into a corner for ever.
BEGIN = """
(window.cryonbViews = window.cryonbViews || []).push(this);
var stage = this.stage;
new ResizeObserver(function () { stage.handleResize(); }).observe(stage.viewer.container);
"""
#: After a reload nglview makes representations anew by their names: no name of our own here.
MARK = """
var part = this.stage.compList[%(index)d];
var mark = part.reprList.find(function (shown) { return shown.name === "ball+stick"; }) ||
    part.addRepresentation("ball+stick", {sele: "none", colorScheme: "element"});
mark.setSelection(%(selection)s);
"""
POINTS = """
    var coded = %(arrays)s, shape = new NGL.Shape("%(name)s");
    function read(key) {
        var bytes = Uint8Array.from(atob(coded[key]), function (c) { return c.charCodeAt(0); });
        return new Float32Array(bytes.buffer);
    }
    function each(n, value) { return new Float32Array(n).fill(value); }
    var position = read("position"), from = read("from");
    shape.addBuffer(new NGL.SphereBuffer({position: position, color: read("color"),
        radius: each(position.length / 3, %(radius)f)}));
    if (from.length) shape.addBuffer(new NGL.CylinderBuffer({position1: from,
        position2: read("to"), color: read("fromColor"), color2: read("toColor"),
        radius: each(from.length / 3, %(radius)f / 3)}));
    stage.addComponentFromObject(shape).addRepresentation("buffer");
"""
#: Runs a script as soon as all parts of the scene are there.
LOADED = """
var stage = this.stage;
(function wait() {
    if (stage.compList.length < %(parts)d) return setTimeout(wait, 100);
    %(code)s
})();
"""
